"""Normal scores: each statistic to the normal quantile of its rank among the fit rows.

t = Phi^-1(F(x)) with F the empirical distribution on some knots, linear between them and *beyond*
them: where known values end a score goes on growing, since a gate that clips there cannot tell the
strange from the very strange. One map may be fitted for each group of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from calibration.arrays import FloatArray, IntArray

#: Knots of a map, fewer where values repeat.
KNOTS = 100

#: Share of the knots at either end that the slope beyond it is taken from.
OUTER = 0.05

#: Where a statistic has never varied, another value of it gets this score: far outside.
NEVER_SEEN = 5.0

#: No score is beyond it: its square is still a number to add up.
LARGEST = 1e6

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
        """Values (N, S) of rows in groups (N,) to scores (N, S); what is not finite stays so."""
        parts = [slice(start, start + ROWS) for start in range(0, len(x), ROWS)]
        found = [self._scores(x[part], group[part]) for part in parts]
        return np.concatenate(found) if found else np.empty(x.shape)

    def _scores(self, x: FloatArray, group: IntArray) -> FloatArray:
        knots, targets, last = self.knots[group], self.targets[group], self.last[group]
        above = (knots <= x[:, :, None]).sum(axis=2)
        low = np.clip(above - 1, 0, last)[:, :, None]
        high = np.minimum(low + 1, last[:, :, None])
        k0, k1 = (np.take_along_axis(knots, i, 2)[:, :, 0] for i in (low, high))
        t0, t1 = (np.take_along_axis(targets, i, 2)[:, :, 0] for i in (low, high))
        slopes = self.slopes[group]
        width = k1 - k0
        inside = np.divide(t1 - t0, width, out=np.zeros_like(width), where=width > 0)
        slope = np.where(above == 0, slopes[..., 0], np.where(above > last, slopes[..., 1], inside))
        with np.errstate(over="ignore", invalid="ignore"):  # inf stays inf, NaN stays NaN
            scores = t0 + slope * (x - k0)
        constant = (last == 0) & (x != k0)
        scores = np.where(constant, NEVER_SEEN * np.sign(x - k0), scores)
        bounded = np.clip(scores, -LARGEST, LARGEST)
        found: FloatArray = np.where(np.isfinite(x), bounded, np.nan)
        return found


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
    low = (targets[m] - targets[0]) / (knots[m] - knots[0])
    high = (targets[-1] - targets[-1 - m]) / (knots[-1] - knots[-1 - m])
    return float(low), float(high)
