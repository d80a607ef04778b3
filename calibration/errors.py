"""The root of what this room raises; narrower errors stand beside the code that raises them.

But for the one that every process of a service knows, most of which never need SciPy.
"""

from __future__ import annotations


class CalibrationError(ValueError):
    """Something that cannot be calibrated, loaded or decided; the message names the remedy."""


class UnsupportedAlphaError(CalibrationError):
    """An alpha for which no threshold on n scores keeps the promise; names the smallest one."""

    code = "unsupported_alpha"
