"""One set of images as every detector sees it: scores, conformal p-values, decisions.

A detector's p-value is the rank of its score among its scores of the calibration rows, one-sided:
p = (1 + #{i: s_i >= s}) / (n + 1). The gate's is the calibration's own. Baselines have no rows held
out for them here, so they have scores and no p-values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import entr

from calibration.arrays import BoolArray, FloatArray
from calibration.calibration import Calibration
from calibration.decisions import Decisions
from calibration.detectors import Detector, fit_detectors
from calibration.table import floats_of, logits_of, statistics_of
from calibration.temperature import softmax

#: Names of detectors that a report singles out.
GATE, INPUT_ONLY, FLOW_ONLY = "gate", "input_statistics", "flow_statistics"
LOG_PROB, TYPICALITY = "log_prob", "typicality"


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedSet:
    """N images: ``scores`` name -> (N,), higher = stranger; ``p_values`` name -> (N,).

    ``not_finite``: rows whose logits, density or statistics are no finite numbers; to every
    detector they are the strangest.
    """

    scores: Mapping[str, FloatArray]
    p_values: Mapping[str, FloatArray]
    decisions: Decisions
    not_finite: int

    def __len__(self) -> int:
        return len(self.decisions.p_value)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """``reference``: the scores of the calibration rows by each detector, ascending."""

    calibration: Calibration
    detectors: tuple[Detector, ...]
    reference: Mapping[str, FloatArray]

    @classmethod
    def of(cls, calibration: Calibration) -> Judge:
        """Fit the detectors, on the fit rows, and rank the calibration rows by each.

        Raises ``CalibrationError`` for a calibration without fit rows.
        """
        detectors = fit_detectors(calibration)
        table = calibration.table
        cal = table.filter(pc.equal(table["split"], "cal"))
        reference = {found.name: np.sort(_ranked(found.score(cal))) for found in detectors}
        return cls(calibration=calibration, detectors=detectors, reference=reference)

    def judge(
        self, table: pa.Table, baselines: Mapping[str, FloatArray] | None = None
    ) -> JudgedSet:
        """``table``: a score table; ``baselines``: name -> logits (N, K) of the same rows."""
        finite = _finite(table)
        scores = {found.name: _scores(found, table, finite) for found in self.detectors}
        gate = scores.pop(GATE)
        scores |= {**baseline_scores(baselines or {}), GATE: gate}  # in the order of ``titles``
        decisions = self.calibration.decide(
            logits_of(table), floats_of(table, "log_prob"), statistics_of(table)
        )
        p_values = {
            name: conformal_p(self.reference[name], scores[name]) for name in self.reference
        }
        return JudgedSet(
            scores=scores,
            p_values=p_values | {GATE: decisions.p_value},
            decisions=decisions,
            not_finite=int((~finite).sum()),
        )

    def titles(self, baselines: tuple[str, ...] = ()) -> dict[str, str]:
        """Each detector's name and words for it, baselines before the gate."""
        own = {found.name: found.title for found in self.detectors}
        gate = {GATE: own.pop(GATE)}
        theirs = {name: name.replace("_", " ") for name in _baseline_names(baselines)}
        return own | theirs | gate


def conformal_p(reference: FloatArray, scores: FloatArray) -> FloatArray:
    """(1 + #{i: s_i >= s}) / (n + 1) for ``scores`` (N,) among ``reference`` (n,), ascending."""
    at_least = len(reference) - np.searchsorted(reference, scores, side="left")
    p: FloatArray = (1 + at_least) / (len(reference) + 1)
    return p


def baseline_scores(logits: Mapping[str, npt.ArrayLike]) -> dict[str, FloatArray]:
    """Entropy (nats) and -max probability (N,) of each baseline's posterior at temperature 1."""
    found: dict[str, FloatArray] = {}
    for name, rows in logits.items():
        posterior = softmax(rows, 1.0)
        both = (entr(posterior).sum(axis=1), -posterior.max(axis=1))
        found |= dict(zip(_baseline_names((name,)), both, strict=True))
    return found


def _baseline_names(baselines: tuple[str, ...]) -> list[str]:
    kinds = ("entropy", "max_probability")
    return [f"{kind} of {name}" for name in baselines for kind in kinds]


def _finite(table: pa.Table) -> BoolArray:
    """Which rows have finite numbers alone, (N,)."""
    columns = [floats_of(table, "log_prob"), *statistics_of(table).values()]
    finite: BoolArray = np.isfinite(np.column_stack([logits_of(table), *columns]))
    return np.asarray(finite.all(axis=1), dtype=np.bool_)


def _scores(detector: Detector, table: pa.Table, finite: BoolArray) -> FloatArray:
    """The scores of rows that have finite numbers alone; the others are the strangest."""
    scores = np.full(table.num_rows, np.inf)
    if finite.any():
        scores[finite] = _ranked(detector.score(table.filter(pa.array(finite))))
    return scores


def _ranked(scores: FloatArray) -> FloatArray:
    """What is no number has no rank: the strangest there is."""
    return np.where(np.isnan(scores), np.inf, scores)
