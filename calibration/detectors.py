"""Scores that strangers are told by, beside the gate's own: what each has to be held against.

All are fitted on the calibration's fit rows alone, and read off the score table.
``input_statistics`` and ``flow_statistics`` are the combined score of these statistics only, with
the same densities given the predicted class and the same outliers, so that a network earns its
place by what it adds. DoSE is the density of statistics estimation of Morningstar et al. (AISTATS
2021) in its simplest form: three statistics, each with a kernel density of its own. How detectors
are judged is in ``calibration.detection``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from scipy.special import entr
from scipy.stats import gaussian_kde

from calibration.arrays import FloatArray
from calibration.calibration import Calibration
from calibration.combined_score import LOG_PROB, CombinedScore
from calibration.errors import CalibrationError
from calibration.fit_rows import fit_rows, outliers_of, values_of
from calibration.table import floats_of, logits_of, statistics_of

#: How the names of the input's own statistics begin.
INPUT_PREFIX = "input_"

#: What DoSE estimates a density of; the latent part of log q is made of the other two.
DOSE = (LOG_PROB, "ladj", "log_prob_z")
#: Rows that carry a kernel each, drawn: every image is held against all of them.
DOSE_ROWS = 5000
#: Least density of a statistic, relative to the largest: beyond it nothing is told apart.
DOSE_FLOOR = 1e-12

Score = Callable[[pa.Table], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Detector:
    """``score``: a score table of N rows to (N,), higher = stranger."""

    name: str
    title: str
    score: Score


def fit_detectors(calibration: Calibration) -> tuple[Detector, ...]:
    """The detectors in the order of a report, the gate last.

    Raises ``CalibrationError`` for a calibration without fit rows.
    """
    fit = fit_rows(calibration.table)
    if not fit.num_rows:
        raise CalibrationError(
            "the calibration has no fit rows, which what the gate is held against is fitted on: "
            "calibrate on more rows"
        )
    names = calibration.combined.names
    inputs = [name for name in names if name.startswith(INPUT_PREFIX)]
    flow = [name for name in names if not name.startswith(INPUT_PREFIX)]
    made: dict[str, tuple[str, Score]] = {
        "log_prob": ("log q(x)", _surprise),
        "typicality": ("typicality", _typicality(fit)),
        "entropy": ("entropy", partial(_entropy, calibration)),
        "max_probability": ("maximum probability", partial(_max_probability, calibration)),
        "dose": ("DoSE, 3 statistics", _dose(fit)),
        "input_statistics": ("input statistics only", _combined(calibration.table, inputs)),
        "flow_statistics": ("flow statistics only", _combined(calibration.table, flow)),
        "gate": ("the gate", partial(_gate, calibration)),
    }
    return tuple(Detector(name=n, title=title, score=score) for n, (title, score) in made.items())


def _surprise(table: pa.Table) -> FloatArray:
    return -floats_of(table, LOG_PROB)


def _typicality(fit: pa.Table) -> Score:
    """How far in the tails of the fit rows log q(x) lies, and beyond them how far out."""
    known = np.sort(floats_of(fit, LOG_PROB))
    middle, spread = np.median(known), np.ptp(known) or 1.0

    def score(table: pa.Table) -> FloatArray:
        found = floats_of(table, LOG_PROB)
        inside = np.abs(np.searchsorted(known, found) / len(known) - 0.5)
        beyond = np.maximum(np.maximum(known[0] - found, found - known[-1]), 0) / spread
        tails: FloatArray = inside + beyond + 1e-9 * np.abs(found - middle) / spread
        return tails

    return score


def _entropy(calibration: Calibration, table: pa.Table) -> FloatArray:
    found: FloatArray = entr(calibration.posterior(logits_of(table))).sum(axis=1)
    return found


def _max_probability(calibration: Calibration, table: pa.Table) -> FloatArray:
    found: FloatArray = -calibration.posterior(logits_of(table)).max(axis=1)
    return found


def _dose(fit: pa.Table) -> Score:
    """-sum of log densities over three statistics; NaN where one is not finite."""
    chosen = np.random.default_rng(0).permutation(fit.num_rows)[:DOSE_ROWS]
    known = _dose_values(values_of(fit.take(np.sort(chosen))))
    least = np.finfo(np.float64).tiny  # of a variance: below, there is none to speak of
    kernels = {name: gaussian_kde(x) for name, x in known.items() if x.var() > least}
    floors = {name: DOSE_FLOOR * float(k(k.dataset[0]).max()) for name, k in kernels.items()}

    def score(table: pa.Table) -> FloatArray:
        found = _dose_values(values_of(table))
        usable = np.isfinite([*found.values()]).all(axis=0)
        total = np.where(usable, 0.0, np.nan)
        for name, kernel in kernels.items():
            total[usable] -= np.log(np.maximum(kernel(found[name][usable]), floors[name]))
        return total

    return score


def _dose_values(values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    with_latent = {**values, "log_prob_z": values[LOG_PROB] - values.get("ladj", 0.0)}
    return {name: with_latent[name] for name in DOSE if name in with_latent}


def _combined(rows: pa.Table, names: list[str]) -> Score:
    """The combined score of some statistics; of none, or one row, every image is alike."""
    fit = fit_rows(rows)
    if not names or fit.num_rows < 2:
        return lambda table: np.zeros(table.num_rows)
    values, logits = values_of(fit), logits_of(fit)
    score = CombinedScore.fit(
        {name: values[name] for name in names},
        logits.argmax(axis=1),
        logits.shape[1],
        outliers_of(rows, names),
    )
    return lambda table: score(values_of(table), logits_of(table).argmax(axis=1))[0]


def _gate(calibration: Calibration, table: pa.Table) -> FloatArray:
    return calibration.scores(logits_of(table), floats_of(table, LOG_PROB), statistics_of(table))
