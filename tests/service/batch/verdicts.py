"""Verdict tables of a make-believe model, which tests of a batch job's summary share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from calibration.calibration import Calibration
from service.verdict_table import verdict_schema
from tests.calibration.tables import NAMES, columns_of

LABELS = ("cat", "dog", "eel", "fox")


def verdicts(
    calibration: Calibration | None,
    count: int,
    *,
    seed: int = 1,
    shift: float = 0.0,
    changes: dict[int, dict[str, Any]] | None = None,
    broken: tuple[int, ...] = (),
    **columns: Any,
) -> pa.Table:
    """``count`` rows like those that ``tests.calibration.tables`` calibrates on.

    Statistics and log_prob of all are moved by ``shift``; ``changes`` sets scores of single rows
    before they are judged, rows of ``broken`` have an error, ``columns`` replaces whole ones.
    """
    rows = _scores(count, seed, shift, changes or {})
    if calibration is not None and count:
        _judge(rows, calibration)
    for i in broken:
        kept = {"id": rows[i]["id"], "label": rows[i]["label"]}
        rows[i] = {**kept, "error": f"{i} bytes that are not an image"}
    for row in rows:
        row |= {"model_name": "pets", "model_version": "1"}
    table = pa.Table.from_pylist(rows, schema=verdict_schema(NAMES))
    for name, values in columns.items():
        table = table.drop_columns(name) if name in table.column_names else table
        table = table.append_column(name, values)
    return table


def _scores(
    count: int, seed: int, shift: float, changes: dict[int, dict[str, Any]]
) -> list[dict[str, Any]]:
    found = columns_of(np.random.default_rng(seed), count)
    rows = []
    for i in range(count):
        row = {"id": found["ids"][i], "label": found["labels"][i]}
        row |= {"logits": found["logits"][i].tolist(), "log_prob": found["log_prob"][i] - shift}
        row |= {f"stat_{n}": float(v[i]) + shift for n, v in found["statistics"].items()}
        rows.append(row | changes.get(i, {}))
    return rows


def _judge(rows: list[dict[str, Any]], calibration: Calibration) -> None:
    logits = np.array([row["logits"] for row in rows])
    log_prob = np.array([row["log_prob"] for row in rows])
    named = {name: np.array([row[f"stat_{name}"] for row in rows]) for name in NAMES}
    found = calibration.decide(logits, log_prob, named)
    for i, row in enumerate(rows):
        decision = "abstain" if found.abstained[i] else "accept"
        decision = "reject" if found.rejected[i] else decision
        k = int(found.class_index[i])
        row |= {"class_index": k, "class_label": LABELS[k], "decision": decision}
        row |= {"posterior": found.posterior[i].tolist(), "rejected": bool(found.rejected[i])}
        for name in ("p_value", "alpha", "threshold", "score"):
            row[name] = float(getattr(found, name)[i])
