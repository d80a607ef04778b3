"""The root of what this room raises; narrower errors stand beside the code that raises them."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Something that cannot be calibrated, loaded or decided; the message names the remedy."""
