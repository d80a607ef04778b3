"""How far confidence is from accuracy, in bins of equal mass; for reports, never for a decision.

``posterior`` is (N, K) with rows that sum to 1, ``labels`` (N,) true classes in [0, K), N >= 1. All
errors are shares in [0, 1]; lower = better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from calibration.arrays import BoolArray, FloatArray, IntArray

BINS = 15

#: Redrawings behind ``calibrated_ece``, and the seed they are drawn with.
DRAWS, SEED = 1000, 0


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Bins of rising confidence, B of them: rows, mean confidence and share of hits of each, (B,).

    What a reliability diagram shows.
    """

    rows: IntArray
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def weights(self) -> FloatArray:
        """Share of the rows in each bin."""
        shares: FloatArray = self.rows / self.rows.sum()
        return shares


def reliability(confidence: FloatArray, correct: BoolArray, bins: int = BINS) -> Reliability:
    """Bins of equal mass over (N,) confidences in [0, 1] and hits (Nguyen & O'Connor, 2015).

    Rows of equal confidence share a bin, so the order of rows does not matter; many ties make
    fewer bins, and none is empty.
    """
    starts = np.arange(1, bins) * len(confidence) // bins
    edges = np.unique(np.sort(confidence)[starts])
    _, index = np.unique(np.searchsorted(edges, confidence, side="right"), return_inverse=True)
    rows = np.bincount(index)
    return Reliability(
        rows=rows,
        confidence=np.bincount(index, weights=confidence) / rows,
        accuracy=np.bincount(index, weights=correct) / rows,
    )


def ece(posterior: FloatArray, labels: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error of the top class: sum_b |B_b| / N |accuracy - confidence|.

    Biased upwards where N / bins is small: see ``debiased_ece``.
    """
    return _plugin(reliability(*_top(posterior, labels), bins))


def debiased_ece(posterior: FloatArray, labels: npt.ArrayLike, bins: int = BINS) -> float:
    """``ece`` less what bins of few rows add to it by chance; at least 0.

    With a bin's standard error s its gap g is expected to look like E|N(g, s)| = s sqrt(2 / pi)
    exp(-g^2 / 2 s^2) + g (1 - 2 Phi(-g / s)); what that is above |g| is taken off (Kumar, Liang &
    Ma, 2019, whose resampling this is in closed form). s is that of (hits + 1) / (rows + 2), so
    that a bin without an error has one too. Since g is itself observed, of a calibrated posterior
    2 - sqrt 2 = .59 of the bias is left: hold it against ``calibrated_ece`` as well.
    """
    found = reliability(*_top(posterior, labels), bins)
    gap = np.abs(found.accuracy - found.confidence)
    rate = (found.accuracy * found.rows + 1) / (found.rows + 2)
    error = np.sqrt(rate * (1 - rate) / found.rows)
    looks = error * np.sqrt(2 / np.pi) * np.exp(-((gap / error) ** 2) / 2)
    looks += gap * (1 - 2 * ndtr(-gap / error))
    return max(0.0, float(found.weights @ (2 * gap - looks)))


def calibrated_ece(posterior: FloatArray, bins: int = BINS, level: float = 0.95) -> float:
    """The ``ece`` that confidences like these stay below with chance ``level`` if they are honest.

    By redrawing hits with the confidences as their chances (Bröcker & Smith, 2007), always the
    same way. An ``ece`` above it is more than chance; one below is no proof of calibration.
    """
    confidence = posterior.max(axis=1)
    rng = np.random.default_rng(SEED)
    found = [
        _plugin(reliability(confidence, rng.random(len(confidence)) < confidence, bins))
        for _ in range(DRAWS)
    ]
    return float(np.quantile(found, level))


def class_wise_ece(posterior: FloatArray, labels: npt.ArrayLike, bins: int = BINS) -> float:
    """Mean over classes k of the calibration error of posterior[:, k] for "is k", at most 2 / K.

    (Kull et al., 2019; Nixon et al., 2019, with bins of equal mass.) It sees what the top class
    hides: classes that are systematically over- and underrated. Biased upwards like ``ece``, so to
    be compared at equal N and K alone.
    """
    truth = np.asarray(labels)
    errors = [
        _plugin(reliability(posterior[:, k], truth == k, bins)) for k in range(posterior.shape[1])
    ]
    return float(np.mean(errors))


def _top(posterior: FloatArray, labels: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Confidence in the most probable class, and whether it is the true one."""
    return posterior.max(axis=1), posterior.argmax(axis=1) == np.asarray(labels)


def _plugin(found: Reliability) -> float:
    return float(found.weights @ np.abs(found.accuracy - found.confidence))
