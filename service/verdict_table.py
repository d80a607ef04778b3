"""The verdict table: one row an image, a superset of the score table of ``calibration.table``.

A row whose image could not be decoded has its ``error`` and nulls. With a checkpoint that was
never calibrated the verdict's columns are null and only scores are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from calibration.decisions import Decisions
from calibration.table import SCORE_SCHEMA, STATISTIC_PREFIX
from model.scoring import Scores
from service.verdict import Decision

_UNUSUAL = pa.struct([("statistic", pa.string()), ("p_value", pa.float64())])

#: The verdict's own columns, in order; those of the score table come first.
VERDICT_FIELDS = (
    pa.field("class_index", pa.int64()),
    pa.field("class_label", pa.string()),
    pa.field("posterior", pa.list_(pa.float32())),
    pa.field("prediction_set", pa.list_(pa.string())),
    pa.field("p_value", pa.float64()),
    pa.field("p_typicality", pa.float64()),
    pa.field("p_train", pa.float64()),
    pa.field("alpha", pa.float64()),
    pa.field("delta", pa.float64()),
    pa.field("mode", pa.string()),
    pa.field("threshold", pa.float64()),
    pa.field("reference_size", pa.int64()),
    pa.field("decision", pa.string()),
    pa.field("rejected", pa.bool_()),
    pa.field("reason", pa.string()),
    pa.field("score", pa.float64()),
    pa.field("bits_per_dim", pa.float64()),
    pa.field("unusual", pa.list_(_UNUSUAL)),
    pa.field("model_name", pa.string()),
    pa.field("model_version", pa.string()),
)


#: Whether ``--fdr`` names a row; of a table that was asked for it alone.
FDR_REJECTED = pa.field("fdr_rejected", pa.bool_())


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What of a calibrated bundle each of its verdicts says."""

    class_labels: tuple[str, ...]
    delta: float
    mode: str


def verdict_schema(statistics: Sequence[str]) -> pa.Schema:
    """The table's schema with a ``stat_*`` column for each of ``statistics``."""
    named = [pa.field(STATISTIC_PREFIX + name, pa.float64()) for name in statistics]
    return pa.schema([*SCORE_SCHEMA, *VERDICT_FIELDS, *named], metadata=SCORE_SCHEMA.metadata)


def score_columns(scores: Scores) -> dict[str, pa.Array]:
    """The columns of N scores, statistics among them."""
    named = {STATISTIC_PREFIX + name: pa.array(v) for name, v in scores.statistics.items()}
    logits = _lists(scores.logits.astype(np.float32))
    return {"logits": logits, "log_prob": pa.array(scores.log_prob), **named}


def verdict_columns(decisions: Decisions, judge: Judge) -> dict[str, pa.Array]:
    """The columns of N decisions, all but ``bits_per_dim``."""
    count, index = len(decisions.p_value), decisions.class_index
    rejected, abstained = decisions.rejected, decisions.abstained
    return {
        "class_index": pa.array(index),
        "class_label": pa.array(judge.class_labels, pa.string()).take(pa.array(index)),
        "posterior": _lists(decisions.posterior.astype(np.float32)),
        "prediction_set": _sets(decisions, judge.class_labels),
        **{
            name: pa.array(getattr(decisions, name))
            for name in (
                *("p_value", "p_typicality", "p_train", "alpha"),
                *("threshold", "reference_size", "rejected", "score"),
            )
        },
        "delta": pa.repeat(judge.delta, count),
        "mode": pa.repeat(judge.mode, count),
        "decision": _chosen(rejected, abstained, tuple(d.value for d in _DECISIONS)),
        "reason": _chosen(rejected, abstained, _REASONS),
        "unusual": pa.array(
            [[{"statistic": s, "p_value": float(p)} for s, p in row] for row in decisions.unusual],
            pa.list_(_UNUSUAL),
        ),
    }


def verdict_table(
    batch: pa.RecordBatch,
    columns: dict[str, pa.Array],
    schema: pa.Schema,
    model_name: str,
    model_version: str | None,
) -> pa.Table:
    """The table of ``batch``'s rows; ``columns`` are of those without an error, in their order."""
    good = batch.column("error").is_null().to_numpy(zero_copy_only=False)
    place = pa.array(np.cumsum(good) - 1, mask=~good)
    count = batch.num_rows
    known = {name: column.take(place) for name, column in columns.items()}
    known |= {name: batch.column(name) for name in ("id", "label", "error")}
    known["model_name"] = pa.repeat(pa.scalar(model_name, pa.string()), count)
    known["model_version"] = pa.repeat(pa.scalar(model_version, pa.string()), count)
    return pa.table(
        [
            known[field.name].cast(field.type)
            if field.name in known
            else pa.nulls(count, field.type)
            for field in schema
        ],
        schema=schema,
    )


_DECISIONS = (Decision.REJECT, Decision.ABSTAIN, Decision.ACCEPT)
_REASONS = ("atypical_input", "ambiguous", None)


def _chosen(rejected: Any, abstained: Any, words: Sequence[str | None]) -> pa.Array:
    """The first word where rejected, the second where abstained, else the third."""
    place = np.where(rejected, 0, np.where(abstained, 1, 2))
    return pa.array(words, pa.string()).take(pa.array(place))


def _lists(matrix: np.ndarray[Any, Any]) -> pa.Array:
    """A matrix (N, K) as N lists."""
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * np.int32(matrix.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))


def _sets(decisions: Decisions, class_labels: Sequence[str]) -> pa.Array:
    inside = decisions.prediction_set
    offsets = np.concatenate([[0], np.cumsum(inside.sum(axis=1))]).astype(np.int32)
    members = pa.array(class_labels, pa.string()).take(pa.array(np.nonzero(inside)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), members)
