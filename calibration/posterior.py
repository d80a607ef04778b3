"""Temperature and q_hat from labelled rows: the part of a calibration that needs the truth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from calibration.arrays import BoolArray
from calibration.prediction_sets import set_quantile as lac_quantile
from calibration.table import labels_of, logits_of
from calibration.temperature import fit_temperature, softmax


def fit_posterior(rows: pa.Table, set_level: float) -> tuple[float, float]:
    """Temperature of least NLL on ``fit`` rows, then q_hat of its posterior on ``cal`` rows.

    Split in two because q_hat's promise needs a posterior that has not seen its rows.
    """
    logits, (labels, _) = logits_of(rows), labels_of(rows)
    fit, cal = _split(rows, "fit"), _split(rows, "cal")
    temperature = fit_temperature(logits[fit], labels[fit])
    return temperature, lac_quantile(softmax(logits[cal], temperature), labels[cal], set_level)


def missing_labels(rows: pa.Table) -> str:
    """Why ``fit_posterior`` cannot be had of these rows, in words; empty if it can."""
    _, known = labels_of(rows)
    parts = {split: known[_split(rows, split)] for split in ("fit", "cal")}
    faults = [
        f"{(~has).sum()} of {len(has)} {split} rows have none" if len(has) else f"no {split} rows"
        for split, has in parts.items()
        if not (len(has) and has.all())
    ]
    return ", ".join(faults)


def _split(rows: pa.Table, split: str) -> BoolArray:
    return np.array([name == split for name in rows.column("split").to_pylist()], dtype=np.bool_)
