"""How well strangers are found, and how often known rows are refused; for reports.

Scores are larger for stranger; p-values smaller. Shares are in [0, 1]. The area under the curve is
``calibration.metrics.auroc``. The intervals are about the rows at hand, drawn afresh with the one
calibration in use: they do not judge its validity, for which its rows are a draw too
(``calibration.conformal.beta_binomial_interval``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from calibration.arrays import BoolArray, FloatArray
from calibration.errors import CalibrationError

#: The most points of a curve in a figure.
POINTS = 500


@dataclass(frozen=True, kw_only=True)
class Rate:
    """``count`` of ``total`` rows; the chance behind it lies in [``low``, ``high``] at some level.

    ``share`` is None where there is no row; the interval is then [0, 1].
    """

    count: int
    total: int
    share: float | None
    low: float
    high: float


def fpr_at_tpr(id_scores: FloatArray, ood_scores: FloatArray, tpr: float = 0.95) -> float:
    """Share of known rows flagged where at least ``tpr`` of the strangers are; lower = better.

    Flagged is s >= t, t the largest score of a stranger that flags as many; ties count against the
    gate. With ``tpr`` = .95 the FPR95 of OpenOOD v1.5 and pytorch-ood, to which a stranger is the
    positive. Other reports, OpenOOD v1.0 among them, take the known for positive, "share of
    strangers accepted where 95% of the known are": that is
    ``fpr_at_tpr(-ood_scores, -id_scores)``, and another number.
    """
    _check_share("tpr", tpr)
    known, strange = _sorted_sides("fpr_at_tpr", id_scores, ood_scores)
    enough = np.arange(1, len(strange) + 1) / len(strange) >= tpr
    fewest = int(enough.argmax()) + 1
    threshold = strange[len(strange) - fewest]
    return float((known >= threshold).mean())


def tpr_at(p_values: npt.ArrayLike, alpha: float) -> float:
    """Share of strangers with p <= ``alpha``; higher = better. ``p_values`` (N,), N >= 1."""
    p = _p_values(p_values)
    if not len(p):
        raise CalibrationError("tpr_at: found no p-value, expected at least one stranger")
    return float((p <= alpha).mean())


def clopper_pearson(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Interval that holds the chance behind ``count`` of ``total`` with chance >= ``level``.

    Exact and central (Clopper & Pearson, 1934); (0, 1) where ``total`` is 0.
    """
    _check_share("level", level)
    if not 0 <= count <= total:
        raise CalibrationError(f"found {count} of {total} rows, expected 0 <= count <= total")
    tail = (1 - level) / 2
    low = float(betaincinv(count, total - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, total - count, 1 - tail)) if count < total else 1.0
    return low, high


def share_of(flags: BoolArray, level: float = 0.95) -> Rate:
    """The share of rows (N,) that are True, with its interval at ``level``."""
    return rate_of(int(flags.sum()), len(flags), level)


def rate_of(count: int, total: int, level: float = 0.95) -> Rate:
    """The same of rows that are counted already."""
    low, high = clopper_pearson(count, total, level)
    share = count / total if total else None
    return Rate(count=count, total=total, share=share, low=low, high=high)


def rate_at(p_values: npt.ArrayLike, alpha: float, level: float = 0.95) -> Rate:
    """The realised share of rows with p <= ``alpha``, ``p_values`` (N,)."""
    return share_of(_p_values(p_values) <= alpha, level)


def rates_by_class(
    p_values: npt.ArrayLike,
    labels: npt.ArrayLike,
    alpha: float,
    classes: int,
    level: float = 0.95,
) -> tuple[Rate, ...]:
    """``rate_at`` within each of K ``classes``; labels (N,) outside of [0, K) count nowhere.

    Each interval holds by itself; for all K at once ask for ``level`` 1 - (1 - level) / K.
    """
    p, truth = _p_values(p_values), np.asarray(labels)
    if truth.shape != p.shape:
        raise CalibrationError(f"labels: found shape {truth.shape}, expected {p.shape} as p-values")
    return tuple(rate_at(p[truth == k], alpha, level) for k in range(classes))


def roc_curve(id_scores: FloatArray, ood_scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of known rows and of strangers flagged at falling thresholds: (fpr, tpr), for figures.

    From (0, 0) to (1, 1), both ascending. At most ``POINTS``: one left out is beyond the one kept
    before it by less than 2 / (``POINTS`` - 1) in fpr and tpr together. Infinities are ranked too.
    """
    known, strange = _sorted_sides("roc_curve", id_scores, ood_scores)
    thresholds = np.unique(np.concatenate([known, strange]))[::-1]
    flagged = [1 - np.searchsorted(side, thresholds) / len(side) for side in (known, strange)]
    fpr, tpr = (np.concatenate([[0.0], shares]) for shares in flagged)
    kept = np.unique(np.searchsorted(fpr + tpr, np.linspace(0, 2, POINTS)))
    return fpr[kept], tpr[kept]


def _sorted_sides(
    what: str, id_scores: FloatArray, ood_scores: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Both ascending. Raises ``CalibrationError`` for NaN and for an empty side."""
    known, strange = np.sort(id_scores), np.sort(ood_scores)
    nan = int(np.isnan(known).sum() + np.isnan(strange).sum())
    if not len(known) or not len(strange) or nan:
        raise CalibrationError(
            f"{what}: found {len(known)} known and {len(strange)} strange scores, {nan} of them "
            "NaN; expected at least one of each and no NaN"
        )
    return known, strange


def _p_values(found: npt.ArrayLike) -> FloatArray:
    p = np.asarray(found, dtype=np.float64)
    wrong = int((~((p >= 0) & (p <= 1))).sum())
    if p.ndim != 1 or wrong:
        raise CalibrationError(
            f"p-values of shape {p.shape}, {wrong} of them outside of [0, 1]: expected one number "
            "from 0 to 1 for each row, without rows that have an error"
        )
    return p


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise CalibrationError(f"{name}: found {value!r}, expected a number between 0 and 1")
