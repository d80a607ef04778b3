"""How good a posterior and a strangeness score are; for reports, never for a decision.

``posterior`` is (N, K) with rows that sum to 1, ``labels`` (N,) true classes in [0, K), N >= 1.
This file does not cover calibration errors (``calibration.calibration_error``), intervals or
detection rates at a threshold.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from calibration.arrays import BoolArray, FloatArray
from calibration.errors import CalibrationError

#: A prediction this sure counts as confident: at most 3 in 1,000 of them should be wrong.
CONFIDENT = 0.997


def accuracy(posterior: FloatArray, labels: npt.ArrayLike) -> float:
    """Share of rows whose most probable class is the true one, in [0, 1]; higher = better."""
    return float((posterior.argmax(axis=1) == np.asarray(labels)).mean())


def nll(posterior: FloatArray, labels: npt.ArrayLike) -> float:
    """Mean -log posterior[i, label_i] in nats; lower = better. 0 is read as 2e-308 (708 nats)."""
    truth = np.asarray(labels, dtype=np.int64)
    picked = np.take_along_axis(posterior, truth[:, None], axis=1)
    return float(-np.log(np.maximum(picked, np.finfo(np.float64).tiny)).mean())


def brier(posterior: FloatArray, labels: npt.ArrayLike) -> float:
    """Mean of sum_k (posterior[i, k] - [k = label_i])^2, in [0, 2]; lower = better. Brier 1950."""
    truth = np.asarray(labels, dtype=np.int64)
    return float(((posterior - np.eye(posterior.shape[1])[truth]) ** 2).sum(axis=1).mean())


def is_confident(posterior: FloatArray) -> BoolArray:
    """Which rows give their top class at least ``CONFIDENT``, (N, K) to (N,)."""
    chosen: BoolArray = posterior.max(axis=1) >= CONFIDENT
    return chosen


def overconfidence_error(posterior: FloatArray, labels: npt.ArrayLike) -> float | None:
    """Error rate of the confident predictions over the rate that their confidence allows, >= 0.

    mean(argmax_k posterior[i, k] != label_i over confident i) / (1 - ``CONFIDENT``); lower =
    better. 1 is an honest 99.7%, 5 is wrong five times too often, 333 is the most there is. None
    where no prediction is confident: nothing is known then. ``is_confident`` counts them; where
    they are few, one error more moves it a lot. (Mackowiak, Ardizzone, Köthe, Rother, CVPR 2021.)
    """
    sure = is_confident(posterior)
    if not sure.any():
        return None
    wrong = posterior[sure].argmax(axis=1) != np.asarray(labels)[sure]
    return float(wrong.mean() / (1 - CONFIDENT))


def aurc(posterior: FloatArray, labels: npt.ArrayLike) -> float:
    """Area under the risk-coverage curve, in [0, 1]; lower = better.

    The mean over k = 1..N of the error rate among the k most confident predictions (Geifman,
    Uziel & El-Yaniv, 2019): how well confidence orders the errors to the end. Rows of equal
    confidence count with their mean, so the order of rows does not matter.
    """
    confidence = posterior.max(axis=1)
    wrong = posterior.argmax(axis=1) != np.asarray(labels)
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    shares = np.bincount(group, weights=wrong) / sizes
    errors = np.repeat(shares, sizes).cumsum()
    return float((errors / np.arange(1, len(confidence) + 1)).mean())


def auroc(id_scores: FloatArray, ood_scores: FloatArray) -> float:
    """P(a stranger's score > a known one's) + P(equal) / 2, in [0, 1]; 0.5 = no power.

    Larger scores mean stranger. By midranks (Mann-Whitney U), so ties and infinities are exact.
    Raises ``CalibrationError`` for NaN, which has no rank, and for an empty side.
    """
    known, strange = len(id_scores), len(ood_scores)
    scores = np.concatenate([id_scores, ood_scores])
    if not known or not strange or np.isnan(scores).any():
        raise CalibrationError(
            f"auroc: found {known} known and {strange} strange scores, {np.isnan(scores).sum()} of "
            "them NaN; expected at least one of each and no NaN"
        )
    u = rankdata(scores)[known:].sum() - strange * (strange + 1) / 2
    return float(u / (known * strange))
