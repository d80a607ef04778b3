"""All figures of a posterior on labelled rows at once, for manifests and reports."""

from __future__ import annotations

from typing import TypedDict

import numpy.typing as npt

from calibration.arrays import FloatArray
from calibration.calibration_error import (
    calibrated_ece,
    class_wise_ece,
    debiased_ece,
    ece,
    ece_interval,
)
from calibration.metrics import aurc, brier, is_confident, nll, overconfidence_error


class PosteriorFigures(TypedDict):
    """Names are those of ``calibration.metrics`` and ``calibration.calibration_error``.

    ``nll`` in nats. ``ece_low``, ``ece_high``: a 95% interval; ``ece_if_calibrated``: what honest
    confidences stay below with 95%. ``oce`` is None where none of the rows is confident: there are
    ``oce_rows``.
    """

    nll: float
    brier: float
    aurc: float
    oce: float | None
    oce_rows: int
    ece: float
    ece_debiased: float
    ece_low: float
    ece_high: float
    ece_if_calibrated: float
    ece_class_wise: float


def posterior_figures(posterior: FloatArray, labels: npt.ArrayLike) -> PosteriorFigures:
    """Of posteriors (N, K) and true classes (N,), N >= 1."""
    low, high = ece_interval(posterior, labels)
    return {
        "nll": nll(posterior, labels),
        "brier": brier(posterior, labels),
        "aurc": aurc(posterior, labels),
        "oce": overconfidence_error(posterior, labels),
        "oce_rows": int(is_confident(posterior).sum()),
        "ece": ece(posterior, labels),
        "ece_debiased": debiased_ece(posterior, labels),
        "ece_low": low,
        "ece_high": high,
        "ece_if_calibrated": calibrated_ece(posterior),
        "ece_class_wise": class_wise_ece(posterior, labels),
    }
