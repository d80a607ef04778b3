"""One pass over a verdict table: what a batch job found, as numbers, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration, top_class
from calibration.combined_score import LOG_PROB
from calibration.errors import CalibrationError
from calibration.plain_json import plain
from calibration.scored_rows import SCORE
from calibration.table import floats_of, statistics_of
from service.batch.atypical import Atypical, MostAtypical
from service.batch.blocks import Block, blocks
from service.batch.change import Change, ChangeTest
from service.batch.errors import Errors, ErrorTexts
from service.batch.labelled import Labelled, LabelledRows
from service.batch.outcomes import OutcomeCounts, Outcomes
from service.batch.p_values import Histogram, PValues
from service.batch.reservoir import Reservoir

SCHEMA_VERSION = 1

#: What is told of the spread of a score.
QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)

_PREDICTED = "predicted"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """``values`` at ``QUANTILES`` of a column of the sample, NaN left out; ``missing`` were NaN."""

    values: tuple[float, ...]
    missing: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a table holds. None where there is nothing to say: without a row, a verdict, a label.

    ``model_name`` and ``model_version`` are those of the first row; of a table without rows only
    its job can say them. ``spread``: of ``score`` and
    ``log_prob``, over ``sample_rows`` rows that were drawn from all that have scores.
    """

    model_name: str | None
    model_version: str | None
    rows: int
    errors: Errors
    outcomes: Outcomes
    p_values: Histogram | None
    change: Change | None
    labelled: Labelled | None
    atypical: tuple[Atypical, ...]
    spread: dict[str, Spread]
    sample_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Valid JSON; a number that JSON has none for becomes the word "inf", "-inf" or "nan"."""
        found: dict[str, Any] = plain({"schema_version": SCHEMA_VERSION, **asdict(self)})
        if self.p_values is not None:
            found["p_values"]["outside"] = plain(self.p_values.outside)
        return found


def summarise(
    tables: Iterable[pa.Table],
    calibration: Calibration | None,
    class_labels: Sequence[str],
    *,
    keep: int = 24,
) -> Summary:
    """The summary of a verdict table, given part by part in the order of its rows.

    ``calibration`` is that of the bundle which scored it, None for a model without; the table then
    is compared with nothing. ``class_labels`` (K) in index order; ``keep`` of the most atypical
    rows are told. The same rows give the same summary however they are cut into parts. Raises
    ``TableError`` for what is no verdict table of the model.
    """
    if keep < 0:
        raise CalibrationError(f"keep {keep}: expected how many rows to tell, from 0")
    pass_ = _Pass(calibration, class_labels, keep)
    for block in blocks(tables):
        pass_.add(block)
    return pass_.result()


class _Pass:
    """Everything that looks at the rows, each block once."""

    def __init__(self, calibration: Calibration | None, labels: Sequence[str], keep: int) -> None:
        if calibration is not None and calibration.classes != len(labels):
            raise CalibrationError(
                f"class_labels: found {len(labels)}, expected {calibration.classes} as the "
                "calibration has: give those of the same bundle"
            )
        self._calibration, self._classes = calibration, len(labels)
        self._rows = 0
        self._model: tuple[str | None, str | None] = (None, None)
        self._errors, self._p_values = ErrorTexts(), PValues()
        self._outcomes = OutcomeCounts(labels, calibration)
        self._labelled = LabelledRows(len(labels))
        self._atypical = MostAtypical(labels, keep)
        self._change = ChangeTest(calibration) if calibration is not None else None
        self._sample = Reservoir()

    def add(self, block: Block) -> None:
        if not self._rows:
            name, version = (block.table.column(f"model_{n}")[0] for n in ("name", "version"))
            self._model = name.as_py(), version.as_py()
        self._rows += len(block)
        top = top_class(block.matrix("logits", block.scored, self._classes))
        self._errors.add(block.table.column("error").drop_null().to_pylist())
        self._outcomes.add(block, _predicted(block, top))
        self._p_values.add(block.p_value[block.judged])
        self._labelled.add(block)
        self._atypical.add(block)
        if self._change is not None:
            self._change.add(block)
        if block.scored.any():
            self._sample.add(_columns(block, top))

    def result(self) -> Summary:
        sample = dict(self._sample.columns)
        predicted = sample.pop(_PREDICTED, np.empty(0)).astype(np.int64)
        change = self._change.result(sample, predicted) if self._change is not None else None
        return Summary(
            model_name=self._model[0],
            model_version=self._model[1],
            rows=self._rows,
            errors=self._errors.result(),
            outcomes=self._outcomes.result(),
            p_values=self._p_values.result(self._calibration),
            change=change,
            labelled=self._labelled.result(),
            atypical=self._atypical.result(),
            spread=_spreads(sample),
            sample_rows=len(self._sample),
        )


def _predicted(block: Block, top: IntArray) -> IntArray:
    """The verdict's class (N,), where there is none that of the largest logit; -1 with an error."""
    found: IntArray = np.full(len(block), -1)
    found[block.scored] = top
    own = block.integers("class_index")
    return np.where(own >= 0, own, found)


def _columns(block: Block, top: IntArray) -> dict[str, FloatArray]:
    """What the sample keeps of the rows that have scores."""
    named = {
        SCORE: block.score,
        LOG_PROB: floats_of(block.table, LOG_PROB),
        **statistics_of(block.table),
    }
    kept = {name: values[block.scored] for name, values in named.items()}
    return kept | {_PREDICTED: top.astype(np.float64)}


def _spreads(sample: Mapping[str, FloatArray]) -> dict[str, Spread]:
    found = {}
    for name in (SCORE, LOG_PROB):
        values = sample.get(name, np.empty(0))
        known = values[~np.isnan(values)]
        if known.size:
            # one that is there, so that no infinity is subtracted from another
            levels = np.quantile(known, QUANTILES, method="inverted_cdf").tolist()
            found[name] = Spread(values=tuple(levels), missing=len(values) - len(known))
    return found
