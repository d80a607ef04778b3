"""A predictor that remembers what it has scored lately: what the Monitor looks for drift in."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from calibration.scored_rows import ScoredRows, held_out_rows, joined
from model.image import UInt8Array
from model.scoring import Scores
from service.predictor import Predictor
from service.verdict import Verdict

#: Images that are remembered from one look to the next; further ones are only counted.
MOST_ROWS = 500


class Watched:
    """Answers as its predictor does, in the thread of forward passes; keeps scores once begun.

    ``reference``: the rows that the predictor's own images are ranked among.
    """

    def __init__(self, predictor: Predictor, most_rows: int = MOST_ROWS) -> None:
        self._predictor = predictor
        self.classes = len(predictor.class_labels)
        self.reference = held_out_rows(predictor.bundle.calibration)
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self._begun = False
        self._parts: list[ScoredRows] = []
        self._rows, self._skipped, self._gate_s = 0, 0, 0.0

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        """Verdicts of uint8 images (B, C, H, W), each at its own alpha (None: the bundle's)."""
        scores = self._predictor.score(images)
        began = time.perf_counter()
        verdicts = self._predictor.verdicts(scores, alphas)
        self._gate_s += time.perf_counter() - began
        if self._begun:
            self._keep(_rows(scores, verdicts))
        return verdicts

    def begin(self) -> None:
        """Keep scores from now on: those of a shadow, or of a self-test, are nobody's answers."""
        self._begun = True

    def take_gate_s(self) -> float:
        """Seconds that the gate took since this was asked last."""
        taken, self._gate_s = self._gate_s, 0.0
        return taken

    def take(self) -> tuple[ScoredRows, int]:
        """What was scored since this was asked last, in order, and how many images are not in it.

        The first of each time are in it, however strange: which ones says nothing of their scores.
        """
        with self._lock:
            taken, skipped = self._parts, self._skipped
            self._parts, self._rows, self._skipped = [], 0, 0
        return joined(taken or [self.reference[:0]]), skipped

    def _keep(self, rows: ScoredRows) -> None:
        with self._lock:
            kept = rows[: self._most_rows - self._rows]
            self._skipped += len(rows) - len(kept)
            self._rows += len(kept)
            if len(kept):
                self._parts.append(kept)


def _rows(scores: Scores, verdicts: Sequence[Verdict]) -> ScoredRows:
    return ScoredRows.of(
        np.array([verdict.score for verdict in verdicts]),
        scores.logits,
        scores.log_prob,
        scores.statistics,
    )
