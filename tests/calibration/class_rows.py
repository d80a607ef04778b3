"""Rows whose statistics depend on the predicted class, for tests of the combined score."""

from __future__ import annotations

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.combined_score import CombinedScore
from calibration.modes import MARGINAL, ranking

Rows = tuple[dict[str, FloatArray], IntArray]

NAMES = ("log_prob", "entropy", "a", "b", "c")
CLASSES = 4


def draw(rng: np.random.Generator, rows: int, classes: int = CLASSES) -> Rows:
    """Statistics whose means, and whose shapes, are those of the predicted class."""
    predicted = rng.integers(0, classes, rows)
    common = rng.standard_t(4, rows)
    values = {
        "log_prob": 2000 + 30 * common + 5 * predicted,
        "entropy": rng.exponential(size=rows),
        "a": 4.0 * predicted + 0.3 * rng.normal(size=rows),
        "b": common + (1 + predicted) * rng.normal(size=rows),
        "c": rng.poisson(3, rows).astype(np.float64),
    }
    return values, predicted


def of(rows: Rows, which: slice | IntArray) -> Rows:
    return {name: column[which] for name, column in rows[0].items()}, rows[1][which]


def fitted(rows: Rows, classes: int = CLASSES) -> CombinedScore:
    return CombinedScore.fit(*rows, classes)


def p_values(score: CombinedScore, cal: Rows, fresh: Rows) -> FloatArray:
    none = np.zeros(len(cal[1]), dtype=np.int64)
    found = ranking(MARGINAL, score(*cal)[0], none, none, 1, 0.05)
    rank, size = found.rank(score(*fresh)[0], np.zeros(len(fresh[1]), dtype=np.int64))
    return np.asarray(rank / (size + 1))
