"""Vector scaling: a weight and an offset for each class on top of the temperature.

posterior = softmax(w * l + b) with l = log softmax(logits / T), the tempered log posterior, and w,
b of one number a class (Guo et al., ICML 2017; on log posteriors instead of logits as in Kull et
al., "Beyond temperature scaling", 2019, where two classes give beta calibration). An offset common
to all logits of a row, which generative logits have by the thousand nats, so does not matter. It
corrects classes that are over- and underrated or more and less frequent than the model believes,
and may move the predicted class, which a temperature alone never does. Not covered: a full matrix
of weights, which K^2 numbers would overfit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from calibration.arrays import FloatArray, IntArray
from calibration.errors import CalibrationError
from calibration.temperature import fit_temperature, softmax

#: Tempered log posteriors (nats) are read as no less than this, e^-100 = 4e-44: one row whose true
#: class the model excludes cannot outweigh all others, and 0 has a finite log. The temperature
#: comes before and knows no such floor.
FLOOR = -100.0

#: Weights stay above: a class must not get less probable as its logit grows.
MIN_WEIGHT = 1e-3

#: Pull towards weight 1 and offset 0: the curvature of the NLL of one row at even odds, p (1 - p).
RIDGE = 0.25


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorScaling:
    """``weights`` (K,) above 0 and ``offsets`` (K,) in nats, sum 0, on top of ``temperature``.

    With weights 1 and offsets 0 it is temperature scaling.
    """

    temperature: float
    weights: FloatArray
    offsets: FloatArray

    def __call__(self, logits: npt.ArrayLike) -> FloatArray:
        """Posterior p(y|x), (N, K) -> (N, K), each row sums to 1.

        A row with a logit that is not finite says nothing about the class: it becomes uniform.
        """
        rows = np.asarray(logits, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.weights):
            raise CalibrationError(
                f"vector scaling: found logits {rows.shape}, expected (N, {len(self.weights)}): "
                "those of the model it was fitted for"
            )
        posterior = softmax(self.weights * _tempered(rows, self.temperature) + self.offsets, 1.0)
        posterior[~np.isfinite(rows).all(axis=1)] = 1 / rows.shape[1]
        return posterior


def fit_vector_scaling(logits: npt.ArrayLike, labels: npt.ArrayLike) -> VectorScaling:
    """Temperature first, then the weights and offsets of least NLL; logits (N, K), nats.

    Minimises sum_i -log posterior[i, label_i] + ``RIDGE`` / 2 (|w - 1|^2 + |b|^2), convex in (w,
    b). The ridge weighs about as much as one row: it keeps a class that never occurs, or that is
    told apart without an error, at finite numbers, and hardly shows in any other. On the rows of
    the fit the NLL is never above that of the temperature. Errors are those of ``fit_temperature``.
    """
    rows = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.int64)
    if rows.ndim == 2 and ((truth < 0) | (truth >= rows.shape[1])).any():
        raise CalibrationError(
            f"vector scaling: found labels from {truth.min()} to {truth.max()}, expected classes "
            f"from 0 to {rows.shape[1] - 1}"
        )
    temperature = fit_temperature(rows, truth)
    weights, offsets = _least_nll(_tempered(rows, temperature), truth)
    return VectorScaling(
        temperature=temperature,
        weights=weights,
        offsets=offsets - offsets.mean(),  # a common offset changes nothing: make them unique
    )


def _tempered(logits: FloatArray, temperature: float) -> FloatArray:
    floored: FloatArray = np.log(np.maximum(softmax(logits, temperature), np.exp(FLOOR)))
    return floored


def _least_nll(log_posterior: FloatArray, truth: IntArray) -> tuple[FloatArray, FloatArray]:
    """Weights and offsets by L-BFGS-B from (1, 0), with the exact gradient."""
    count, classes = log_posterior.shape
    is_class = truth[:, None] == np.arange(classes)
    start = np.concatenate([np.ones(classes), np.zeros(classes)])

    def loss(point: FloatArray) -> tuple[float, FloatArray]:
        scaled = log_softmax(point[:classes] * log_posterior + point[classes:], axis=1)
        excess = np.exp(scaled) - is_class
        slope = np.concatenate([(excess * log_posterior).sum(axis=0), excess.sum(axis=0)])
        away = point - start
        total = RIDGE / 2 * away @ away - scaled[is_class].sum()
        return float(total) / count, (slope + RIDGE * away) / count

    bounds = [(MIN_WEIGHT, None)] * classes + [(None, None)] * classes
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x[:classes], found.x[classes:]
