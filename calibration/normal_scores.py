"""Normal scores: each statistic to the normal quantile of its rank among the fit rows.

t = Phi^-1(F(x)) with F the empirical distribution on some knots, linear between them and *beyond*
them: where known values end a score goes on growing, since a gate that clips there cannot tell the
strange from the very strange. One map may be fitted for each group of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from calibration.arrays import BoolArray, FloatArray, IntArray

#: Knots of a map, fewer where values repeat.
KNOTS = 100

#: Share of the knots at either end that the slope beyond it is taken from.
OUTER = 0.05

#: Where a statistic has never varied, another value of it gets this score: far outside.
NEVER_SEEN = 5.0

#: No score is beyond it: its square is still a number to add up.
LARGEST = 1e6

#: No value is taken for farther out than this, and no slope for steeper: their product is a number.
FARTHEST = STEEPEST = 1e100

#: Rows mapped at once, so that memory does not grow with their number.
ROWS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalScores:
    """Maps of S statistics for each of G groups.

    ``knots`` (G, S, M) ascending, padded with inf; ``targets`` (G, S, M) their normal quantiles;
    ``last`` (G, S): index of the last knot; ``slopes`` (G, S, 2) below the first and above it.
    """

    knots: FloatArray
    targets: FloatArray
    last: IntArray
    slopes: FloatArray
    _pieces: FloatArray = field(init=False, repr=False)
    _never_varied: BoolArray = field(init=False, repr=False)
    _all_varied: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """What each piece between knots is computed from, so that a row takes a few look-ups."""
        object.__setattr__(self, "_pieces", self._piecewise())
        object.__setattr__(self, "_never_varied", np.equal(self.last, 0))
        object.__setattr__(self, "_all_varied", not self._never_varied.any())

    @classmethod
    def fit(cls, parts: list[FloatArray]) -> NormalScores:
        """One map a group from its rows (n_g, S), n_g >= 1, all finite."""
        maps = [[_fit_one(column) for column in part.T] for part in parts]
        shape = (len(maps), len(maps[0]), max(len(k) for group in maps for k, _ in group))
        knots, targets = np.full(shape, np.inf), np.zeros(shape)
        last, slopes = np.zeros(shape[:2], dtype=np.int64), np.zeros((*shape[:2], 2))
        for g, group in enumerate(maps):
            for s, (k, t) in enumerate(group):
                knots[g, s, : len(k)], targets[g, s, : len(k)] = k, t
                last[g, s] = len(k) - 1
                slopes[g, s] = _slopes(k, t)
        return cls(knots=knots, targets=targets, last=last, slopes=slopes)

    def __call__(self, x: FloatArray, group: IntArray) -> FloatArray:
        """Values (N, S) of rows in groups (N,) to scores (N, S); NaN stays NaN."""
        if len(x) <= ROWS:
            return self._scores(x, group)
        parts = [slice(start, start + ROWS) for start in range(0, len(x), ROWS)]
        found = [self._scores(x[part], group[part]) for part in parts]
        return np.concatenate(found)

    def _scores(self, x: FloatArray, group: IntArray) -> FloatArray:
        x = np.clip(x, -FARTHEST, FARTHEST)  # NaN stays NaN
        knots = self.knots if len(self.knots) == 1 else self.knots[group]
        piece = (knots <= x[:, :, None]).sum(axis=2)
        start, score, slope = self._pieces[:, group[:, None], np.arange(x.shape[1]), piece]
        scores: FloatArray = score + slope * (x - start)
        if not self._all_varied:
            constant = self._never_varied[group] & (x != start) & ~np.isnan(x)
            scores = np.where(constant, NEVER_SEEN * np.sign(x - start), scores)
        return np.clip(scores, -LARGEST, LARGEST)

    def _piecewise(self) -> FloatArray:
        """(3, G, S, M + 1): knot, target and slope that hold where so many knots are not above."""
        place = np.clip(np.arange(self.knots.shape[2] + 1) - 1, 0, self.last[..., None])
        upper = np.minimum(place + 1, self.last[..., None])
        start, end = (np.take_along_axis(self.knots, i, 2) for i in (place, upper))
        score, to = (np.take_along_axis(self.targets, i, 2) for i in (place, upper))
        width = end - start
        with np.errstate(over="ignore"):
            slope = np.divide(to - score, width, out=np.zeros_like(width), where=width > 0)
        slope = np.minimum(slope, STEEPEST)
        count = np.arange(slope.shape[2])
        slope = np.where(count == 0, self.slopes[..., :1], slope)
        slope = np.where(count > self.last[..., None], self.slopes[..., 1:], slope)
        return np.stack([start, score, slope])


def _fit_one(column: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Knots of one statistic and their targets; equal knots are one, at the mean of theirs."""
    count = min(KNOTS, len(column))
    shares = (np.arange(count) + 0.5) / count
    knots, place = np.unique(np.quantile(column, shares), return_inverse=True)
    targets = np.bincount(place, ndtri(shares)) / np.bincount(place)
    return knots, targets


def _slopes(knots: FloatArray, targets: FloatArray) -> tuple[float, float]:
    if len(knots) == 1:
        return 0.0, 0.0
    m = max(1, int(len(knots) * OUTER))
    with np.errstate(over="ignore"):
        low = (targets[m] - targets[0]) / (knots[m] - knots[0])
        high = (targets[-1] - targets[-1 - m]) / (knots[-1] - knots[-1 - m])
    return min(float(low), STEEPEST), min(float(high), STEEPEST)
