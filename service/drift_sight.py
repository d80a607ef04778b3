"""What a replica shows the Monitor of one model, to look for drift in."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.scored_rows import ScoredRows


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Rows of one model in their order, from one replica, and how many images are not in them.

    ``number`` counts a source's sights of the model, from 1: one that arrives twice is one.
    """

    source: str
    number: int
    name: str
    version: str
    rows: ScoredRows
    skipped: int
