"""How many rows got which decision, and what was promised of those that are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from calibration.arrays import IntArray
from calibration.calibration import Calibration
from calibration.detection import Rate, rate_of
from calibration.table import TableError
from service.batch.blocks import Block
from service.verdict import Decision
from service.verdict_table import FDR_REJECTED

#: Confidence of the interval of the share that is rejected.
LEVEL = 0.99

#: Predicted classes that are told one by one.
TOLD_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Span:
    """The smallest and the largest of a column; equal where all rows have the same."""

    low: float
    high: float

    def __str__(self) -> str:
        """For people, three digits of each."""
        return f"{self.low:.3g}" + (f" to {self.high:.3g}" if self.low != self.high else "")


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Of images like the calibration rows at most ``alpha`` are rejected, p_value <= ``threshold``.

    With confidence 1 - ``delta``; what the rows say, and the calibration where it is known (else
    None). ``reference_size``: the rows that images are ranked among.
    """

    alpha: Span
    threshold: Span
    delta: float | None
    mode: str | None
    reference_size: int | None


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """``decisions``: rows of each decision. ``scored``: rows with scores and no verdict, which a
    model that was never calibrated gives; ``rejected`` and ``promise`` are None without a verdict.

    ``predictions``: the most frequent predicted classes with their rows; ``other_predictions``
    rows of other classes. ``fdr_rejected``: rows named strangers at a false discovery rate, None
    where the table does not say.
    """

    decisions: dict[str, int]
    scored: int
    rejected: Rate | None
    promise: Promise | None
    predictions: tuple[tuple[str, int], ...]
    other_predictions: int
    fdr_rejected: int | None


class OutcomeCounts:
    """Counts over a stream of blocks; ``labels`` (K) are the classes in index order."""

    def __init__(self, labels: Sequence[str], calibration: Calibration | None) -> None:
        self._labels, self._calibration = labels, calibration
        self._decisions: Counter[str] = Counter()
        self._scored = self._fdr = 0
        self._has_fdr = False
        self._predicted: IntArray = np.zeros(len(labels), dtype=np.int64)
        self._spans: dict[str, Span] = {}

    def add(self, block: Block, predicted: IntArray) -> None:
        """Rows and their ``predicted`` classes (N,), -1 for none."""
        for entry in pc.value_counts(block.table.column("decision")).to_pylist():
            if entry["values"] is not None:
                self._decisions[entry["values"]] += entry["counts"]
        self._scored += int((block.scored & ~block.judged).sum())
        known = predicted[predicted >= 0]
        if known.size and int(known.max()) >= len(self._labels):
            raise TableError(
                f"column class_index: found {known.max()}, expected a class in [0, "
                f"{len(self._labels)}): name the bundle that scored the table"
            )
        self._predicted += np.bincount(known, minlength=len(self._labels))
        if FDR_REJECTED.name in block.table.column_names:
            self._has_fdr = True
            self._fdr += pc.sum(block.table.column(FDR_REJECTED.name)).as_py() or 0
        for name in ("alpha", "threshold"):
            self._widen(name, pc.min_max(block.table.column(name)).as_py())

    def result(self) -> Outcomes:
        """So far."""
        order = np.argsort(-self._predicted, kind="stable")
        told = [int(k) for k in order[:TOLD_CLASSES] if self._predicted[k]]
        predictions = tuple((self._labels[k], int(self._predicted[k])) for k in told)
        return Outcomes(
            decisions={one.value: self._decisions[one.value] for one in Decision},
            scored=self._scored,
            rejected=self._rejected(),
            promise=self._promise(),
            predictions=predictions,
            other_predictions=int(self._predicted.sum()) - sum(count for _, count in predictions),
            fdr_rejected=self._fdr if self._has_fdr else None,
        )

    def _widen(self, name: str, found: dict[str, float | None]) -> None:
        low, high = found["min"], found["max"]
        if low is None or high is None:
            return
        before = self._spans.get(name)
        if before is not None:
            low, high = min(low, before.low), max(high, before.high)
        self._spans[name] = Span(low=low, high=high)

    def _rejected(self) -> Rate | None:
        total, count = self._decisions.total(), self._decisions[Decision.REJECT.value]
        if not total:
            return None
        return rate_of(count, total, LEVEL)

    def _promise(self) -> Promise | None:
        if self._spans.keys() != {"alpha", "threshold"}:
            return None
        known = self._calibration
        return Promise(
            alpha=self._spans["alpha"],
            threshold=self._spans["threshold"],
            delta=known.delta if known else None,
            mode=known.mode if known else None,
            reference_size=known.reference_size if known else None,
        )
