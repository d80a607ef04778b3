"""The p-values of a table in bins, beside how many a bin holds where every image is typical."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.conformal import histogram_band
from calibration.modes import MARGINAL

BINS = 20

#: Chance that all bins of a table of typical images lie in the band together, at least.
LEVEL = 0.99

#: Rows that a band is computed for exactly; the shares of so many are taken for more, which is
#: slightly wider and keeps time and memory bounded.
MOST_ROWS = 200_000

#: p = b / BINS is in bin b - 1, by the comparison that ``attained_rank`` makes.
_EDGES: FloatArray = np.array([b / BINS for b in range(1, BINS)])


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """``counts``: rows with p in (b / B, (b + 1) / B] of each bin b.

    ``low`` and ``high``, both included: where each count lies for images like the calibration rows,
    all B at once in at least ``level`` of cases over the draw of these rows and of the images. None
    where that is not known: without the calibration, and in modes whose ranks are of several sets.
    """

    counts: tuple[int, ...]
    low: tuple[int, ...] | None
    high: tuple[int, ...] | None
    level: float

    @property
    def total(self) -> int:
        """Rows."""
        return sum(self.counts)

    @property
    def outside(self) -> tuple[int, ...] | None:
        """Of each bin 1 where it holds too many, -1 too few, else 0; None without a band."""
        if self.low is None or self.high is None:
            return None
        bounds = zip(self.counts, self.low, self.high, strict=True)
        return tuple((count > high) - (count < low) for count, low, high in bounds)


class PValues:
    """Counts the p-values of a stream."""

    def __init__(self) -> None:
        self._counts: IntArray = np.zeros(BINS, dtype=np.int64)

    def add(self, p_values: FloatArray) -> None:
        """(N,) in [0, 1]; without NaN."""
        bins = np.searchsorted(_EDGES, p_values, side="left")
        self._counts += np.bincount(bins, minlength=BINS)

    def result(self, calibration: Calibration | None) -> Histogram | None:
        """So far; None without any p-value."""
        m = int(self._counts.sum())
        if not m:
            return None
        low = high = None
        if calibration is not None and calibration.mode == MARGINAL:
            low, high = band(calibration.reference_size, m)
        counts = tuple(self._counts.tolist())
        return Histogram(counts=counts, low=low, high=high, level=LEVEL)


def band(n: int, m: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bounds (B,) of the counts of m typical images that are ranked among n: low and high."""
    of, level = min(m, MOST_ROWS), 1 - (1 - LEVEL) / BINS
    low, high = (bound.tolist() for bound in histogram_band(BINS, n, of, level))
    return (
        tuple(math.floor(count * m / of) for count in low),
        tuple(math.ceil(count * m / of) for count in high),
    )
