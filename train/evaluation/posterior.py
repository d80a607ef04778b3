"""Figures of a posterior on labelled rows, the model's and each baseline's, by one computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.detection import Rate, share_of
from calibration.posterior_figures import posterior_figures as figures_of_posterior
from calibration.temperature import softmax
from train.evaluation.judging import JudgedSet

#: What a report calls the model that is evaluated.
MODEL = "this model"


@dataclass(frozen=True, kw_only=True)
class PosteriorReport:
    """Of all labelled rows, those that the gate rejects too.

    From ``nll`` to ``ece_class_wise`` as in ``calibration.posterior_figures``. The fields with a
    default are the model's alone: ``coverage`` and ``mean_set_size`` of its
    prediction sets, and its accuracy on what it accepts and on what it rejects.
    """

    source: str
    accuracy: Rate
    nll: float
    brier: float
    ece: float
    ece_debiased: float
    ece_low: float
    ece_high: float
    ece_if_calibrated: float
    ece_class_wise: float
    oce: float | None
    oce_rows: int
    aurc: float
    coverage: Rate | None = None
    mean_set_size: float | None = None
    accuracy_accepted: Rate | None = None
    accuracy_rejected: Rate | None = None


def posterior_figures(
    known: JudgedSet, labels: IntArray, baselines: Mapping[str, FloatArray]
) -> tuple[PosteriorReport, ...]:
    """The model's and each baseline's (logits (N, K)); ``labels`` (N,), -1 for unknown.

    Empty where no label is known.
    """
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        return ()
    decided, truth = known.decisions, labels[rows]
    posterior = decided.posterior[rows]
    sets = decided.prediction_set[rows]
    right: BoolArray = posterior.argmax(axis=1) == truth
    rejected = decided.rejected[rows]
    ours = replace(
        _figures(MODEL, posterior, truth),
        coverage=share_of(sets[np.arange(len(rows)), truth]),
        mean_set_size=float(sets.sum(axis=1).mean()),
        accuracy_accepted=share_of(right[~rejected]),
        accuracy_rejected=share_of(right[rejected]),
    )
    theirs = [_figures(name, softmax(found[rows], 1.0), truth) for name, found in baselines.items()]
    return (ours, *theirs)


def _figures(source: str, posterior: FloatArray, truth: IntArray) -> PosteriorReport:
    return PosteriorReport(
        source=source,
        accuracy=share_of(posterior.argmax(axis=1) == truth),
        **figures_of_posterior(posterior, truth),
    )
