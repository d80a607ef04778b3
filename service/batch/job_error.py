"""Why a batch job cannot begin, go on or be trusted."""

from __future__ import annotations


class JobError(Exception):
    """Something a user can mend; names the value, what was expected and the remedy."""
