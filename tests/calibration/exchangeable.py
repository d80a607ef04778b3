"""Exchangeable scores of a make-believe model, for tests of decisions."""

from __future__ import annotations

from typing import Any

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.decisions import Decisions
from calibration.table import score_table
from tests.calibration.tables import BOUND

Scores = tuple[FloatArray, FloatArray, dict[str, FloatArray]]

NAMES = ("log_det", "margin", "energy", "peak", "tail")
N = 999


def draw(rng: np.random.Generator, rows: int) -> Scores:
    """Exchangeable scores of 5 classes; statistics that depend on each other and on log_prob."""
    log_prob = 2000 + 30 * rng.standard_t(4, rows)
    statistics = {name: rng.normal(size=rows) + log_prob / 50 for name in NAMES}
    return 2 * rng.normal(size=(rows, 5)), log_prob, statistics


def truth_of(rng: np.random.Generator, logits: FloatArray) -> IntArray:
    """Classes drawn from the posterior of the logits."""
    return np.asarray((logits + rng.gumbel(size=logits.shape)).argmax(axis=1))


def calibrate(rng: np.random.Generator, n: int = N, fit: int = 300, **changes: Any) -> Calibration:
    logits, log_prob, statistics = draw(rng, n + fit + 200)
    table = score_table(
        ids=[str(row) for row in range(len(logits))],
        labels=truth_of(rng, logits).tolist(),
        splits=["train"] * 200 + ["fit"] * fit + ["cal"] * n,
        logits=logits,
        log_prob=log_prob,
        statistics=statistics,
    )
    return Calibration.fit(table, bound=BOUND, **changes)


def at(calibration: Calibration, log_prob: list[float], **changes: Any) -> Decisions:
    """Decide on these densities, all else unremarkable."""
    rows = len(log_prob)
    statistics = {name: np.full(rows, 40.0) for name in NAMES}
    return calibration.decide(np.zeros((rows, 5)), log_prob, statistics, **changes)


def own_rows(calibration: Calibration) -> Scores:
    """The calibration rows, as if they came once more."""
    chosen = np.array(calibration.table["split"].to_pylist()) == "cal"
    columns = {name: calibration.table[f"stat_{name}"].to_numpy()[chosen] for name in NAMES}
    logits = np.array(calibration.table["logits"].to_pylist())[chosen]
    return logits, calibration.table["log_prob"].to_numpy()[chosen], columns
