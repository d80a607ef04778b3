"""Prediction sets: the classes an image may be of, holding the true one as often as promised.

Split conformal prediction (Vovk et al., 2005): each class has a nonconformity in [0, 1], larger =
less likely; q_hat is the ceil((n + 1) level)-th smallest of the true classes' among n held-out
rows, and a set takes the classes at or below it. The true class is then in with probability >=
``level``, on average over draws of the rows, for any posterior that has not seen them and for
inputs exchangeable with them. Not covered: coverage given the one set of rows in use, or given the
class.

- ``lac``: 1 - posterior (least ambiguous classifier; Sadinle, Lei & Wasserman, 2019). The smallest
  sets on average; images that are hard hold the truth less often than easy ones.
- ``aps``: the posterior mass of all classes more probable than it (adaptive prediction sets;
  Romano, Sesia & Candès, 2020): a set is the fewest most probable classes whose mass exceeds q_hat.
  Coverage of hard and easy images is more even, though not quite even, since no set is empty.

APS comes without the paper's random draw of whether the last class stays, so that an image always
gets the same answer. The mass does not count the class itself, as a common simplification has it:
of a classifier surer than ``level`` that mass is almost 1 for most true classes, then so is q_hat,
and an image with some doubt gets nearly every class.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from calibration.arrays import BoolArray, FloatArray
from calibration.errors import CalibrationError

LAC, APS = "lac", "aps"
SET_METHODS = (LAC, APS)


def set_quantile(
    posterior: FloatArray, labels: npt.ArrayLike, level: float, method: str = "lac"
) -> float:
    """q_hat in [0, 1] of (n, K) held-out posteriors and their (n,) true classes.

    With too few rows the rank is beyond n; q_hat is then 1, which takes in every class.
    """
    if not 0 < level < 1:
        raise CalibrationError(f"level: found {level!r}, expected a number between 0 and 1")
    truth = np.asarray(labels, dtype=np.int64)
    _check(posterior, truth)
    own = np.take_along_axis(_nonconformity(posterior, method), truth[:, None], axis=1)[:, 0]
    rank = math.ceil((len(own) + 1) * level)
    if (rank - 1) / (len(own) + 1) >= level:  # a product rounded up across an integer
        rank -= 1
    return float(np.sort(own)[rank - 1]) if rank <= len(own) else 1.0


def prediction_sets(posterior: FloatArray, q_hat: float, method: str = "lac") -> BoolArray:
    """Classes of nonconformity <= q_hat, (N, K); the top class is always in, so none is empty."""
    sets: BoolArray = _nonconformity(posterior, method) <= q_hat
    sets[np.arange(len(sets)), posterior.argmax(axis=1)] = True
    return sets


def _nonconformity(posterior: FloatArray, method: str) -> FloatArray:
    if method not in SET_METHODS:
        raise CalibrationError(
            f"set method: found {method!r}, expected one of {', '.join(SET_METHODS)}"
        )
    return 1 - posterior if method == "lac" else _mass_above(posterior)


def _mass_above(posterior: FloatArray) -> FloatArray:
    """Sum of the posteriors that are larger, for each class, (N, K); at most 1, for the top one 0.

    Equal posteriors have it in common, and sums go from the largest down, so that the order of
    classes does not matter.
    """
    order = np.argsort(-posterior, axis=1)
    falling = np.take_along_axis(posterior, order, axis=1)
    mass = np.zeros_like(falling)
    mass[:, 1:] = np.minimum(falling.cumsum(axis=1)[:, :-1], 1.0)  # a sum may end an ulp above
    mass[:, 1:][falling[:, 1:] == falling[:, :-1]] = 0.0  # not the first of its equals:
    mass = np.maximum.accumulate(mass, axis=1)  # takes the first one's
    above = np.empty_like(mass)
    np.put_along_axis(above, order, mass, axis=1)
    return above


def _check(posterior: FloatArray, truth: npt.NDArray[np.int64]) -> None:
    if posterior.ndim != 2 or truth.shape != posterior.shape[:1]:
        raise CalibrationError(
            f"prediction sets: found posteriors {posterior.shape} and labels {truth.shape}, "
            "expected (n, K) and (n,)"
        )
    if ((truth < 0) | (truth >= posterior.shape[1])).any():
        raise CalibrationError(
            f"prediction sets: found labels from {truth.min()} to {truth.max()}, expected classes "
            f"from 0 to {posterior.shape[1] - 1}"
        )
