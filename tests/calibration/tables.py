"""A score table of a make-believe model, and its calibration, that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import entr, softmax

from calibration.arrays import BoolArray, FloatArray
from calibration.calibration import Bound, Calibration
from calibration.table import score_table

BOUND = Bound(weights_sha256="ab" * 32, preprocessing_sha256="12" * 32, dtype="float32")
SIZES = {"train": 300, "fit": 400, "cal": 600}
SPLIT = np.repeat(list(SIZES), list(SIZES.values()))
NAMES = ("entropy", "log_det", "margin", "input_tv")


def columns_of(rng: np.random.Generator, count: int) -> dict[str, Any]:
    """Rows of 4 classes whose logits are three times too sharp, in arrays for ``score_table``."""
    logits = 2 * rng.normal(size=(count, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    log_prob = 2000 + rng.normal(size=count)
    statistics = {
        "entropy": entropy(logits),
        "log_det": log_prob / 2 + rng.normal(size=count),
        "margin": rng.exponential(size=count),
        "input_tv": rng.standard_t(5, size=count),
    }
    return {
        "ids": [f"{index}.png" for index in range(count)],
        "labels": labels.tolist(),
        "splits": None,
        "logits": 3 * logits,
        "log_prob": log_prob,
        "statistics": statistics,
    }


def entropy(logits: FloatArray) -> FloatArray:
    return np.asarray(entr(softmax(logits, axis=1)).sum(axis=1))


def rows(seed: int = 0, **changes: Any) -> pa.Table:
    """1,300 rows in the splits of ``SIZES``."""
    columns = columns_of(np.random.default_rng(seed), len(SPLIT)) | {"splits": SPLIT.tolist()}
    return score_table(**(columns | changes))


def some(*splits: str) -> BoolArray:
    """Which of ``rows`` are of these splits."""
    return np.isin(SPLIT, splits)


def only(table: pa.Table, *splits: str) -> pa.Table:
    return table.filter(pa.array(some(*splits)))


def without_labels(*splits: str) -> pa.Table:
    table = rows()
    pairs = zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True)
    labels = [None if split in splits else label for label, split in pairs]
    return table.set_column(1, "label", pa.array(labels, pa.int64()))


def fit(table: pa.Table, **changes: Any) -> Calibration:
    return Calibration.fit(table, **({"bound": BOUND} | changes))
