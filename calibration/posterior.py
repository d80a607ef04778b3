"""The calibrated posterior and its prediction sets: the part of a calibration that needs truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from calibration.arrays import BoolArray, FloatArray
from calibration.errors import CalibrationError
from calibration.prediction_sets import SET_METHODS, prediction_sets, set_quantile
from calibration.table import labels_of, logits_of
from calibration.temperature import fit_temperature, softmax
from calibration.vector_scaling import VectorScaling, fit_vector_scaling

#: How logits become a posterior.
TEMPERATURE, VECTOR = "temperature", "vector"
POSTERIOR_METHODS = (TEMPERATURE, VECTOR)


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Logits to p(y|x) and prediction sets; made by ``fit``, or of stored numbers.

    ``scaling``: None for temperature scaling alone. ``set_level``: chance that a prediction set
    holds the true class; ``set_method`` and ``q_hat`` see ``calibration.prediction_sets``.
    """

    temperature: float
    scaling: VectorScaling | None
    set_method: str
    set_level: float
    q_hat: float

    def __post_init__(self) -> None:
        """Refuse numbers that no posterior or set could be made with."""
        if not 0 < self.temperature < np.inf:
            raise CalibrationError(f"temperature: found {self.temperature!r}, expected above 0")
        if not 0 <= self.q_hat <= 1:
            raise CalibrationError(f"q_hat: found {self.q_hat!r}, expected a number in [0, 1]")
        check_options(self.method, self.set_method, self.set_level)

    @classmethod
    def fit(cls, rows: pa.Table, *, method: str, set_method: str, set_level: float) -> Posterior:
        """Scaling of least NLL on ``fit`` rows, then q_hat of its posterior on ``cal`` rows.

        Split in two because q_hat's promise needs a posterior that has not seen its rows.
        """
        check_options(method, set_method, set_level)
        logits, (labels, _) = logits_of(rows), labels_of(rows)
        fit, cal = rows_of(rows, "fit"), rows_of(rows, "cal")
        temperature = fit_temperature(logits[fit], labels[fit])
        scaling = fit_vector_scaling(logits[fit], labels[fit]) if method == VECTOR else None
        posterior = scaling(logits[cal]) if scaling else softmax(logits[cal], temperature)
        return cls(
            temperature=temperature,
            scaling=scaling,
            set_method=set_method,
            set_level=float(set_level),
            q_hat=set_quantile(posterior, labels[cal], set_level, set_method),
        )

    @property
    def method(self) -> str:
        """Of ``POSTERIOR_METHODS``."""
        return VECTOR if self.scaling else TEMPERATURE

    def __call__(self, logits: npt.ArrayLike) -> FloatArray:
        """p(y|x), (N, K) to (N, K); uniform for a row whose logits are not finite."""
        return self.scaling(logits) if self.scaling else softmax(logits, self.temperature)

    def sets(self, posterior: FloatArray) -> BoolArray:
        """The prediction sets of posteriors (N, K), never empty."""
        return prediction_sets(posterior, self.q_hat, self.set_method)


def check_options(method: str, set_method: str, set_level: float) -> None:
    """Raise ``CalibrationError`` for words and a level that there are not."""
    for name, found, expected in (
        ("posterior", method, POSTERIOR_METHODS),
        ("set_method", set_method, SET_METHODS),
    ):
        if found not in expected:
            raise CalibrationError(f"{name}: found {found!r}, expected {' or '.join(expected)}")
    if not 0 < set_level < 1:
        raise CalibrationError(f"set_level: found {set_level!r}, expected in (0, 1)")


def missing_labels(rows: pa.Table) -> str:
    """Why ``Posterior.fit`` cannot be had of these rows, in words; empty if it can."""
    _, known = labels_of(rows)
    parts = {split: known[rows_of(rows, split)] for split in ("fit", "cal")}
    faults = [
        f"{(~has).sum()} of {len(has)} {split} rows have none" if len(has) else f"no {split} rows"
        for split, has in parts.items()
        if not (len(has) and has.all())
    ]
    return ", ".join(faults)


def rows_of(rows: pa.Table, split: str) -> BoolArray:
    """Which rows are of ``split``, (N,)."""
    return np.array([name == split for name in rows.column("split").to_pylist()], dtype=np.bool_)
