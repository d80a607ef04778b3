"""p-values of a stream, each score ranked among reference scores and all of the stream before it.

With s_1, .. s_n the reference and the stream so far, the next score s gets

    p_rnd = (#{s_i > s} + U (1 + #{s_i = s})) / (n + 1),   U uniform on (0, 1]

(Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005). While the stream is
exchangeable with the reference these p are uniform *and independent*, ties included. Ranked among
the reference alone they are neither: all of them inherit its deviation from the truth, which a long
stream takes for drift.

Memory is bounded, at no cost in validity. From ``size`` scores on no value is kept any more: those
there are cut the line into cells, and later scores are counted by cell. Within a cell later scores
are exchangeable, so a new one's place among them is uniform, and that is what U draws: the p have
the very distribution that they would have with every score kept. Only resolution is lost: scores
that lie in one cell, about 1 / ``size`` of the reference, cannot be told apart.

Small p = strange. For drift only, never for a decision: p depends on a draw and on the past.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from calibration.arrays import FloatArray, IntArray
from calibration.errors import CalibrationError

#: Scores that are kept as values, unless the reference has more; later ones are counted.
SIZE = 20_000

#: Scores that are ranked at once, by comparing each with those before it.
CHUNK = 256


class GrowingReference:
    """Ranks scores as they come, then takes them in. Not locked: one stream, one thread."""

    def __init__(self, reference: npt.ArrayLike, seed: int = 0, size: int = SIZE) -> None:
        """``reference`` (n,) finite scores in any order, n >= 1; all are kept, be n over ``size``.

        The draws U follow ``seed``: equal streams give equal p, however they are cut up.
        """
        self._values = np.sort(_checked_reference(reference))
        self._size = max(size, len(self._values))
        self._counts: IntArray = np.zeros(2 * self._size + 1, dtype=np.int64)
        self._counted = 0
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """How many scores a new one is ranked among."""
        return len(self._values) + self._counted

    @property
    def nbytes(self) -> int:
        """Memory of what is kept; from ``size`` scores on it stays the same."""
        return self._values.nbytes + self._counts.nbytes

    def p_values(self, scores: FloatArray) -> FloatArray:
        """p_rnd in (0, 1] of scores (N,) without NaN, in their order, each counted from then on."""
        parts = [self._take(part) for part in self._parts(scores)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _parts(self, scores: FloatArray) -> Iterator[FloatArray]:
        """Cut so that no part holds both scores to keep and scores to count."""
        start = 0
        while start < len(scores):
            room = self._size - len(self._values)
            part = scores[start : start + min(CHUNK, room or CHUNK)]
            start += len(part)
            yield part

    def _take(self, scores: FloatArray) -> FloatArray:
        left = np.searchsorted(self._values, scores, side="left")
        right = np.searchsorted(self._values, scores, side="right")
        cell = left + right  # 2 j between values, odd or not at a value; ascending, all different
        full = len(self._values) == self._size
        above, ties = len(self._values) - right, right - left
        if full:
            above += self._counted - np.cumsum(self._counts)[cell]
            ties += self._counts[cell]
        place = cell if full else scores
        before = np.tri(len(scores), k=-1, dtype=np.bool_)  # [i, j]: j came before i
        above += ((place[None, :] > place[:, None]) & before).sum(axis=1)
        ties += ((place[None, :] == place[:, None]) & before).sum(axis=1)
        drawn = 1.0 - self._rng.random(len(scores))
        p: FloatArray = (above + drawn * (1 + ties)) / (len(self) + 1 + np.arange(len(scores)))
        self._grow(scores, cell, full)
        return p

    def _grow(self, scores: FloatArray, cell: IntArray, full: bool) -> None:
        if full:
            np.add.at(self._counts, cell, 1)
            self._counted += len(cell)
        else:
            ordered = np.sort(scores)
            places = np.searchsorted(self._values, ordered)
            self._values = np.insert(self._values, places, ordered)


def _checked_reference(reference: npt.ArrayLike) -> FloatArray:
    found = np.asarray(reference, dtype=np.float64)
    wrong = int((~np.isfinite(found)).sum())
    if found.ndim != 1 or not len(found) or wrong:
        raise CalibrationError(
            f"reference scores of shape {found.shape}, {wrong} of them not finite: expected one "
            "finite number for each calibration row, at least one; leave out rows without a score"
        )
    return found
