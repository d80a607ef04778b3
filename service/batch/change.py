"""Whether the images of a table are other than the calibration rows: the service's own test.

One sequential test over the rows in their order, with the alarm budget that a service has by
default, and how far each column of a sample lies from the reference. A table whose order says
something by itself, such as one class after another, is not what the test is about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.drift import AlarmBudget, DriftTest
from calibration.scored_rows import SCORE, held_out_rows
from calibration.windows import Moved, compare
from service.batch.blocks import Block


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """The first one: ``row`` of the table, from 0, with its ``id``, after so many ``scores``."""

    row: int
    id: str | None
    scores: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """``alarm`` is None where the test gave none; ``budget`` says how rarely it may be wrong.

    ``moved``: each column of ``sample_rows`` rows against ``reference_rows``, the largest effect
    first; for display, an effect is no alarm. ``score`` is S.
    """

    alarm: Alarm | None
    tested: int
    budget: str
    reference_rows: int
    sample_rows: int
    moved: tuple[Moved, ...]

    @property
    def of_score(self) -> Moved | None:
        """How far S moved."""
        return next((one for one in self.moved if one.name == SCORE), None)


class ChangeTest:
    """The test over a stream of blocks, until its first alarm."""

    def __init__(self, calibration: Calibration, budget: AlarmBudget | None = None) -> None:
        """A calibration of which no row has a finite S has nothing to compare with."""
        rows = held_out_rows(calibration)
        finite = np.isfinite(rows.scores)
        columns = {SCORE: rows.scores, **rows.columns}
        self._reference = {name: values[finite] for name, values in columns.items()}
        self._predicted, self._classes = rows.predicted[finite], calibration.classes
        self._test = DriftTest(rows.scores[finite], budget) if finite.any() else None
        self._tested = 0
        self._alarm: Alarm | None = None

    def add(self, block: Block) -> None:
        """Rows with a verdict, in their order; a score that is not finite is the strangest."""
        if self._test is None:
            return
        rows = np.flatnonzero(block.judged)
        self._tested += len(rows)
        if self._alarm is not None or not len(rows):
            return
        before, scores = self._test.seen, block.score[rows]
        self._test.update(np.where(np.isnan(scores), np.inf, scores))
        if self._test.alarm_at is not None:
            row = int(rows[self._test.alarm_at - before - 1])
            id_ = block.table.column("id")[row].as_py()
            self._alarm = Alarm(row=block.first + row, id=id_, scores=self._test.alarm_at)

    def result(self, sample: dict[str, FloatArray], predicted: IntArray) -> Change | None:
        """``sample`` name -> (m,) and ``predicted`` (m,) of the largest logit, of scored rows.

        None without a row to test or to compare.
        """
        if self._test is None or not self._tested or not len(predicted):
            return None
        with np.errstate(invalid="ignore"):  # a median between -inf and inf is NaN, and told so
            moved = compare(self._reference, sample, self._predicted, predicted, self._classes)
        return Change(
            alarm=self._alarm,
            tested=self._tested,
            budget=str(self._test.budget),
            reference_rows=len(self._predicted),
            sample_rows=len(predicted),
            moved=tuple(moved),
        )
