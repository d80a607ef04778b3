"""Temperature scaling: one number that makes the softmax of the logits a calibrated posterior.

Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. It moves
confidence, never the predicted class. It does not cover vector scaling, nor per-class temperatures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from calibration.arrays import FloatArray
from calibration.errors import CalibrationError

#: A fitted temperature never leaves these bounds.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e6


def softmax(logits: npt.ArrayLike, temperature: float) -> FloatArray:
    """Posterior p(y|x) = softmax(logits / temperature), (N, K) -> (N, K), each row sums to 1.

    A higher temperature is less sure. Any common offset of a row is fine, thousands of nats too. A
    row with a logit that is not finite says nothing about the class: it becomes uniform.
    """
    rows = np.asarray(logits, dtype=np.float64)
    usable = np.isfinite(rows).all(axis=1, keepdims=True)
    if not usable.all():
        rows = np.where(usable, rows, 0.0)
    with np.errstate(over="ignore"):  # a gap beyond the range of floats: a posterior of 0
        weights = np.exp((rows - rows.max(axis=1, keepdims=True)) / temperature)
    posterior: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return posterior


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature of least NLL, mean(-log softmax(logits / T)[label]); logits (N, K), nats.

    Solved on log T, where the slope of the NLL changes sign once: with g_k = logit_k - logit_label,
    sum_k softmax(g / T)_k g_k, averaged over rows, falls in T. Where every label has the largest
    logit no T is best (the NLL falls for ever as T does); then the mean posterior of the label is
    set to Laplace's rule of succession, (N + 1) / (N + 2). One class alone gives 1.
    """
    rows = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.int64)
    if rows.ndim != 2 or truth.shape != rows.shape[:1] or not rows.size:
        raise CalibrationError(
            f"temperature: found logits {rows.shape} and labels {truth.shape}, expected (N, K) "
            "and (N,) with N >= 1"
        )
    if not np.isfinite(rows).all():
        raise CalibrationError("temperature: found logits that are not finite, expected numbers")
    if rows.shape[1] == 1:
        return 1.0
    gaps = rows - np.take_along_axis(rows, truth[:, None], axis=1)
    if gaps.max() > 0:
        return _root(lambda t: float((softmax(gaps, t) * gaps).sum(axis=1).mean()))
    sure = (len(rows) + 1) / (len(rows) + 2)
    picked = (np.arange(len(rows)), truth)
    return _root(lambda t: float(softmax(gaps, t)[picked].mean()) - sure)


def _root(falling: Callable[[float], float]) -> float:
    """Where a function that falls in T crosses zero, or the bound on the side where it would."""
    if falling(MIN_TEMPERATURE) <= 0:
        return MIN_TEMPERATURE
    if falling(MAX_TEMPERATURE) >= 0:
        return MAX_TEMPERATURE
    bounds = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    return float(np.exp(brentq(lambda log_t: falling(float(np.exp(log_t))), *bounds, xtol=1e-10)))
