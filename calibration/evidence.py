"""The gate's evidence: which statistics made S of an image what it is.

Each statistic by itself has an exact two-sided p-value; what it adds to the surprise of the two
densities behind S (``calibration.combined_score``) takes the others into account, and sums to it.
A diagnosis only: the smallest of many p-values is no test, the p-value of S is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.arrays import FloatArray
from calibration.calibration import Calibration, top_class
from calibration.combined_score import LOG_PROB
from calibration.typicality import p_typicality


@dataclass(frozen=True, kw_only=True)
class StatisticEvidence:
    """One statistic of one image.

    ``p_value``: two-sided among the reference, small = unusual. ``normal_score``: its rank among
    the fit rows as a quantile of N(0, 1). ``contribution``: what it adds to the surprise of the
    two densities, nats, each weighted by its share of S; below 0 where the others account for it.
    NaN where S has no densities or is not finite.
    """

    name: str
    value: float
    p_value: float
    normal_score: float
    contribution: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of one image: its statistics, the largest contribution first, and each view's share of S."""

    statistics: tuple[StatisticEvidence, ...]
    views: Mapping[str, float]


def evidence(
    calibration: Calibration,
    logits: FloatArray,
    log_prob: FloatArray,
    statistics: Mapping[str, npt.ArrayLike],
) -> list[Evidence]:
    """Of N images, as ``Calibration.decide`` takes them."""
    combined, predicted = calibration.combined, top_class(logits)
    _, values, normal = combined({**statistics, LOG_PROB: log_prob}, predicted)
    usable = np.isfinite(values).all(axis=1) & np.isfinite(logits).all(axis=1)
    contributions = np.full(values.shape, np.nan)
    views: list[dict[str, float]] = [{} for _ in values]
    if combined.views is not None and usable.any():
        rows = values[usable], normal[usable], predicted[usable]
        shares, parts = combined.shares(*rows), combined.parts(*rows)
        density = shares[:, :2] / shares[:, :2].sum(axis=1, keepdims=True)
        contributions[usable] = (density[:, :, None] * parts).sum(axis=1)
        for i, row in zip(np.flatnonzero(usable), shares.tolist(), strict=True):
            views[i] = dict(zip(combined.views_of, row, strict=True))
    typical = p_typicality(calibration.reference.held_out, np.asarray(log_prob, np.float64))
    return [
        Evidence(
            statistics=_sorted(calibration, values[i], normal[i], contributions[i], typical[i]),
            views=views[i],
        )
        for i in range(len(values))
    ]


def _sorted(
    calibration: Calibration,
    values: FloatArray,
    normal: FloatArray,
    contributions: FloatArray,
    typical: float,
) -> tuple[StatisticEvidence, ...]:
    reference = calibration.reference
    found = [
        StatisticEvidence(
            name=name,
            value=float(values[i]),
            p_value=typical if name == LOG_PROB else reference.p_value(name, float(values[i])),
            normal_score=float(normal[i]),
            contribution=float(contributions[i]),
        )
        for i, name in enumerate(calibration.combined.names)
    ]
    weights = np.where(np.isnan(contributions), np.abs(normal), contributions)
    weights = np.where(np.isnan(normal), np.inf, weights)  # what is no number is the cause itself
    return tuple(found[i] for i in np.argsort(-weights, kind="stable"))
