"""Figures of a posterior on labelled rows, the model's and each baseline's, by one computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.calibration_error import (
    calibrated_ece,
    class_wise_ece,
    debiased_ece,
    ece,
    ece_interval,
)
from calibration.detection import Rate
from calibration.metrics import aurc, brier, is_confident, nll, overconfidence_error
from calibration.temperature import softmax
from train.evaluation.judging import Judged
from train.evaluation.pairs import share_of

#: What a report calls the model that is evaluated.
MODEL = "this model"


@dataclass(frozen=True, kw_only=True)
class PosteriorFigures:
    """Of all labelled rows, those that the gate rejects too.

    Names are those of ``calibration.metrics`` and ``calibration.calibration_error``. ``ece_low``,
    ``ece_high``: a 95% interval; ``ece_if_calibrated``: what honest confidences stay below with
    95%. ``oce`` is None where none of the rows is confident: there are ``oce_rows``.
    The fields with a default are the model's alone: ``coverage`` and ``mean_set_size`` of its
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
    known: Judged, labels: IntArray, baselines: Mapping[str, FloatArray]
) -> tuple[PosteriorFigures, ...]:
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


def _figures(source: str, posterior: FloatArray, truth: IntArray) -> PosteriorFigures:
    low, high = ece_interval(posterior, truth)
    return PosteriorFigures(
        source=source,
        accuracy=share_of(posterior.argmax(axis=1) == truth),
        nll=nll(posterior, truth),
        brier=brier(posterior, truth),
        ece=ece(posterior, truth),
        ece_debiased=debiased_ece(posterior, truth),
        ece_low=low,
        ece_high=high,
        ece_if_calibrated=calibrated_ece(posterior),
        ece_class_wise=class_wise_ece(posterior, truth),
        oce=overconfidence_error(posterior, truth),
        oce_rows=int(is_confident(posterior).sum()),
        aurc=aurc(posterior, truth),
    )
