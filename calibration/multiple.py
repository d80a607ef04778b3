"""Many images at once: which of a set are strangers, with few false alarms among those named.

By the procedure of Benjamini and Hochberg (1995) on the p-values of one calibration. That these
share their reference does no harm: the false discovery rate, the expected share of typical images
among those named, stays at or below q times the share of typical images in the set (Bates et al.,
"Testing for Outliers with Conformal p-values", 2021, for ranks of one score; of two-sided ranks a
test holds the same by simulation). To combine the p-values of several images into one, as Fisher
and Stouffer do, is not valid with a shared reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from calibration.arrays import BoolArray
from calibration.errors import CalibrationError

#: Ranks over n + 1 often are exactly q k / m; their quotients in floats may miss it by so little.
ROUNDING = 1e-12


def strangers(p_values: npt.ArrayLike, q: float) -> BoolArray:
    """Which of m images are strangers at false discovery rate ``q``, (m,) to (m,).

    ``p_values`` are all of the set, small = strange. Raises ``CalibrationError`` for numbers that
    are no p-values, and for a ``q`` outside of (0, 1).
    """
    found = np.asarray(p_values, dtype=np.float64)
    check_share("q", q)
    wrong = ~((found >= 0) & (found <= 1))  # NaN too
    if found.ndim != 1 or wrong.any():
        raise CalibrationError(
            f"p-values of shape {found.shape}, {int(wrong.sum())} of them outside of [0, 1]: "
            "expected one number from 0 to 1 for each image, without rows that have an error"
        )
    if not len(found):
        return np.zeros(0, dtype=np.bool_)
    named: BoolArray = false_discovery_control(found, method="bh") <= q * (1 + ROUNDING)
    return named


def critical_p(counts: Mapping[float, int], q: float) -> float | None:
    """The largest p-value that ``strangers`` names at ``q``; None where it names no image.

    ``counts``: how often each p-value occurs. Ranks among n take few values, so a set of any size
    is known by these in little memory; an image is named where its p-value is at most the answer.
    Raises ``CalibrationError`` as ``strangers`` does, and for a count below 0.
    """
    check_share("q", q)
    for p, count in counts.items():
        if not 0 <= p <= 1 or count < 0:
            raise CalibrationError(
                f"p-value {p} occurs {count} times: expected a number from 0 to 1 that occurs 0 "
                "times or more, without rows that have an error"
            )
    found = sorted((p, count) for p, count in counts.items() if count)
    values = np.array([p for p, _ in found], dtype=np.float64)
    last = np.cumsum([count for _, count in found], dtype=np.int64)  # rank of each value's last
    if not found:
        return None
    rates = np.minimum(values * (last[-1] / last), 1.0)  # in the order of scipy's own rounding
    named = np.flatnonzero(rates <= q * (1 + ROUNDING))
    return float(values[named[-1]]) if named.size else None


def fewest_found(m: int, q: float, smallest_p: float) -> int | None:
    """How many strangers a set of ``m`` images must hold for the first to be named at ``q``.

    ``smallest_p``: the smallest p-value that the calibration can give, 1 / (n + 1) for ranks of a
    score among n and 2 / (n + 1) where they are two-sided. k equal p-values are named where they
    are at most q k / m. None where not even m would do: the reference is too small, or the set
    empty. Raises ``CalibrationError`` for a ``q`` or ``smallest_p`` outside of (0, 1).
    """
    check_share("q", q)
    check_share("smallest_p", smallest_p)
    fewest = max(1, math.ceil(m * smallest_p / q * (1 - ROUNDING)))
    return fewest if fewest <= m else None


def check_share(name: str, value: float) -> None:
    """Raise ``CalibrationError`` for a ``value`` outside of (0, 1)."""
    if not 0 < value < 1:
        raise CalibrationError(f"{name} {value}: expected a number between 0 and 1")
