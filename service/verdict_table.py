"""The verdict table: one row an image, a superset of the score table of ``calibration.table``.

A row whose image could not be decoded has its ``error`` and nulls. With a checkpoint that was
never calibrated the verdict's columns are null and only scores are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from calibration.table import SCORE_SCHEMA, STATISTIC_PREFIX
from service.verdict import Verdict

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


@dataclass(frozen=True, kw_only=True)
class ScoredRow:
    """One image with what is known of it; ``error`` excludes everything but id and label."""

    id: str
    label: int | None
    error: str | None = None
    logits: Sequence[float] | None = None
    log_prob: float | None = None
    statistics: dict[str, float] | None = None
    verdict: Verdict | None = None


def verdict_schema(statistics: Sequence[str]) -> pa.Schema:
    """The table's schema with a ``stat_*`` column for each of ``statistics``."""
    named = [pa.field(STATISTIC_PREFIX + name, pa.float64()) for name in statistics]
    return pa.schema([*SCORE_SCHEMA, *VERDICT_FIELDS, *named], metadata=SCORE_SCHEMA.metadata)


def verdict_table(
    rows: Sequence[ScoredRow], schema: pa.Schema, model_name: str, model_version: str | None
) -> pa.Table:
    """Rows to a table of ``schema``."""
    model = {"model_name": model_name, "model_version": model_version}
    return pa.Table.from_pylist([{**_flat(row), **model} for row in rows], schema=schema)


def _flat(row: ScoredRow) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "id": row.id,
        "label": row.label,
        "error": row.error,
        "logits": row.logits,
        "log_prob": row.log_prob,
    }
    for name, value in (row.statistics or {}).items():
        flat[STATISTIC_PREFIX + name] = value
    if row.verdict is not None:
        flat |= asdict(row.verdict)
        flat["decision"] = row.verdict.decision.value
    return flat
