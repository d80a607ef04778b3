"""What moved: a recent window of each score against the reference, for display and not for alarms.

- a score or statistic: the two-sample Kolmogorov-Smirnov distance D = sup |F - G| of the window
  (m rows) and the reference (n rows), in [0, 1]
- predicted classes: the total variation T = 1/2 sum_k |p_k - q_k| of their shares, in [0, 1]

How much of that is chance depends on n, m and the number of classes, so each comes with its effect:
the distance over what two samples of one and the same distribution have on average,

    E[D] ~ sqrt(pi / 2) ln 2 sqrt((n + m) / (n m))        (the mean of Kolmogorov's distribution)
    E[T] ~ sqrt(1 / (2 pi)) sqrt((n + m) / (n m)) sum_k sqrt(r_k (1 - r_k)),   r of both together

About 1 = nothing but chance. Never compared with a uniform distribution of p-values: a finite
reference makes perfect traffic deviate from that. With many statistics looked at many times some
effect is always above 1.5, which is why an alarm is for ``calibration.drift`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.errors import CalibrationError

#: Rows of a window.
WINDOW = 2000

#: The name that the distance of predicted classes goes by.
PREDICTED_CLASS = "predicted_class"

#: The mean of Kolmogorov's distribution, sqrt(pi / 2) ln 2.
KOLMOGOROV_MEAN = math.sqrt(math.pi / 2) * math.log(2)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far one thing moved: ``distance`` in [0, 1], ``effect`` 1 = chance alone; higher = more.

    ``before`` and ``after`` are the medians of reference and window; of predicted classes they are
    the shares of the class that changed most, whose index is ``class_index``, else None.
    """

    name: str
    distance: float
    effect: float
    before: float
    after: float
    class_index: int | None = None


def ks_distance(reference: FloatArray, recent: FloatArray) -> float:
    """sup |F - G| of samples (n,) and (m,), each at least one number; NaN counts as +infinity."""
    one, other = np.sort(_numbers(reference)), np.sort(_numbers(recent))
    at = np.concatenate([one, other])
    below = np.searchsorted(one, at, side="right") / len(one)
    difference = below - np.searchsorted(other, at, side="right") / len(other)
    return float(np.abs(difference).max())


def total_variation(reference: IntArray, recent: IntArray) -> float:
    """Half the sum of differences of shares; counts by class (K,) and (K,), neither all zero."""
    return float(np.abs(reference / reference.sum() - recent / recent.sum()).sum() / 2)


def moved(name: str, reference: FloatArray, recent: FloatArray) -> Moved:
    """One score or statistic, (n,) against (m,)."""
    _refuse_empty(name, len(reference), len(recent))
    distance = ks_distance(reference, recent)
    return Moved(
        name=name,
        distance=distance,
        effect=distance / (KOLMOGOROV_MEAN * _scale(len(reference), len(recent))),
        before=float(np.median(_numbers(reference))),
        after=float(np.median(_numbers(recent))),
    )


def classes_moved(reference: IntArray, recent: IntArray) -> Moved:
    """The predicted classes, as counts (K,) of each side."""
    n, m = int(reference.sum()), int(recent.sum())
    _refuse_empty(PREDICTED_CLASS, n, m)
    distance, both = total_variation(reference, recent), (reference + recent) / (n + m)
    chance = _scale(n, m) * float(np.sqrt(both * (1 - both)).sum()) / math.sqrt(2 * math.pi)
    before, after = reference / n, recent / m
    most = int(np.abs(after - before).argmax())
    return Moved(
        name=PREDICTED_CLASS,
        distance=distance,
        effect=distance / chance if chance else 0.0,  # one class on both sides: no distance
        before=float(before[most]),
        after=float(after[most]),
        class_index=most,
    )


def compare(
    reference: Mapping[str, FloatArray],
    recent: Mapping[str, FloatArray],
    reference_classes: IntArray,
    recent_classes: IntArray,
    classes: int,
) -> list[Moved]:
    """Every column that both sides have, the one that moved most first.

    Columns (n,) and (m,); predicted classes (n,) and (m,) in [0, ``classes``), passed over where
    either side has none.
    """
    shared = [name for name in reference if name in recent]
    found = [moved(name, reference[name], recent[name]) for name in shared]
    if len(reference_classes) and len(recent_classes):
        counts = [np.bincount(c, minlength=classes) for c in (reference_classes, recent_classes)]
        found.append(classes_moved(*counts))
    return sorted(found, key=lambda one: -one.effect)


class RecentWindow:
    """The last rows of a stream, ready to be compared. Memory is ``size`` rows, filled or not."""

    def __init__(
        self,
        reference: Mapping[str, FloatArray],
        classes: IntArray,
        n_classes: int,
        size: int = WINDOW,
    ) -> None:
        """``reference`` name -> (n,), predicted ``classes`` (n,) of the same rows."""
        if size < 1:
            raise CalibrationError(f"size {size}: expected a window of at least 1 row")
        self._reference = dict(reference)
        self._classes, self._n_classes = np.asarray(classes, dtype=np.int64), n_classes
        self._columns = {name: np.empty(size) for name in reference}
        self._predicted: IntArray = np.empty(size, dtype=np.int64)
        self._size, self._seen = size, 0

    def __len__(self) -> int:
        """Rows in the window."""
        return min(self._seen, self._size)

    def add(self, columns: Mapping[str, FloatArray], classes: IntArray) -> None:
        """New rows (N,), oldest first; those of names that the reference lacks are passed over."""
        last = slice(max(0, len(classes) - self._size), None)
        rows = np.arange(self._seen, self._seen + len(classes))[last] % self._size
        for name, kept in self._columns.items():
            if name not in columns or len(columns[name]) != len(classes):
                found = len(columns[name]) if name in columns else "none"
                raise CalibrationError(
                    f"{name}: found {found} of {len(classes)} numbers, expected one for each row"
                )
            kept[rows] = np.asarray(columns[name], dtype=np.float64)[last]
        self._predicted[rows] = classes[last]
        self._seen += len(classes)

    def most_moved(self, k: int | None = None) -> list[Moved]:
        """The ``k`` that moved most, the first foremost; None for all. Empty without any row."""
        rows = len(self)
        if not rows:
            return []
        recent = {name: kept[:rows] for name, kept in self._columns.items()}
        found = compare(
            self._reference, recent, self._classes, self._predicted[:rows], self._n_classes
        )
        return found[:k]


def _numbers(values: FloatArray) -> FloatArray:
    """NaN as +infinity: a score that is not finite is a stranger, not a row that is missing."""
    found = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(found), np.inf, found)


def _scale(n: int, m: int) -> float:
    return math.sqrt((n + m) / (n * m))


def _refuse_empty(name: str, n: int, m: int) -> None:
    if not (n and m):
        raise CalibrationError(
            f"{name}: found {n} reference and {m} recent rows, expected at least one of each"
        )
