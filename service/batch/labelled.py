"""How right the answers are, where the table says what an image shows.

Accuracy, NLL and Brier score are of all labelled rows; the calibration error, whose bins of equal
mass need the rows at once, is of a sample of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import BoolArray, FloatArray
from calibration.calibration_error import Reliability, reliability
from calibration.detection import Rate, rate_of
from calibration.metrics import brier, nll
from service.batch.blocks import Block
from service.batch.reservoir import Reservoir
from service.verdict import Decision

#: Confidence of the intervals of accuracies.
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows of like confidence: mean confidence, and share of hits with its 95% interval."""

    rows: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Of rows that have a verdict and a label among the classes; ``unknown`` have another label.

    ``accuracy`` is of all of them, ``accepted`` of those that the gate accepts, ``coverage`` the
    share that it accepts. ``nll`` in nats, ``brier`` in [0, 2], ``ece`` in [0, 1] of
    ``ece_rows`` rows in ``bins`` of equal mass.
    """

    rows: int
    unknown: int
    accuracy: Rate
    accepted: Rate
    coverage: float
    nll: float
    brier: float
    ece: float
    ece_rows: int
    bins: tuple[Bin, ...]


class LabelledRows:
    """Sums over a stream of blocks; ``classes`` is K."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._rows = self._hits = self._accepted = self._accepted_hits = self._unknown = 0
        self._nll = self._brier = 0.0
        self._sample = Reservoir()

    def add(self, block: Block) -> None:
        """Rows without a verdict or label are passed over."""
        labels = block.integers("label")
        told = block.judged & np.array(block.table.column("label").is_valid().to_numpy(), bool)
        chosen = told & (labels >= 0) & (labels < self._classes)
        self._unknown += int((told & ~chosen).sum())
        if not chosen.any():
            return
        posterior, truth = block.matrix("posterior", chosen, self._classes), labels[chosen]
        correct = posterior.argmax(axis=1) == truth
        decisions = np.array(block.table.column("decision").to_pylist(), dtype=object)[chosen]
        self._count(correct, decisions == Decision.ACCEPT.value)
        self._nll += nll(posterior, truth) * len(truth)
        self._brier += brier(posterior, truth) * len(truth)
        self._sample.add(
            {"confidence": posterior.max(axis=1), "correct": correct.astype(np.float64)}
        )

    def result(self) -> Labelled | None:
        """So far; None without a labelled row."""
        if not self._rows:
            return None
        kept = self._sample.columns
        found = reliability(kept["confidence"], kept["correct"] > 0)
        return Labelled(
            rows=self._rows,
            unknown=self._unknown,
            accuracy=rate_of(self._hits, self._rows, LEVEL),
            accepted=rate_of(self._accepted_hits, self._accepted, LEVEL),
            coverage=self._accepted / self._rows,
            nll=self._nll / self._rows,
            brier=self._brier / self._rows,
            ece=float(found.weights @ np.abs(found.accuracy - found.confidence)),
            ece_rows=len(self._sample),
            bins=_bins(found),
        )

    def _count(self, correct: BoolArray, accepted: BoolArray) -> None:
        self._rows += len(correct)
        self._hits += int(correct.sum())
        self._accepted += int(accepted.sum())
        self._accepted_hits += int((correct & accepted).sum())


def _bins(found: Reliability) -> tuple[Bin, ...]:
    columns: list[FloatArray] = [found.confidence, found.accuracy, *found.accuracy_interval(LEVEL)]
    rows = zip(found.rows.tolist(), *(column.tolist() for column in columns), strict=True)
    return tuple(Bin(rows=n, confidence=c, accuracy=a, low=lo, high=hi) for n, c, a, lo, hi in rows)
