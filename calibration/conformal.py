"""What a rank among n held-out scores promises.

Two promises, not to be confused (Bates et al., "Testing for Outliers with Conformal p-values",
2021). On average over calibration draws P(p <= alpha) <= alpha. Given the *one* calibration set in
use the rate is Beta(l, n + 1 - l) for l ranks: above alpha about half the time. The PAC threshold
takes fewer ranks, so that the rate stays below alpha with confidence 1 - delta.

Guarantees hold for inputs exchangeable with the calibration rows, and only for them. This file does
not cover many images together (``calibration.multiple``), nor among which rows a score is ranked
(``calibration.modes``), nor prediction sets (``calibration.prediction_sets``).
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context
from functools import lru_cache

import numpy as np
from scipy.special import betainc, betaincinv
from scipy.stats import betabinom

from calibration.arrays import IntArray
from calibration.errors import CalibrationError, UnsupportedAlphaError


def pac_rank(n: int, alpha: float, delta: float, min_rank: int = 1) -> int:
    """The largest l' with BetaCDF(alpha; l', n + 1 - l') >= 1 - delta.

    Rejecting the l' smallest of n + 1 ranks keeps the rejection rate at or below ``alpha`` with
    probability ``1 - delta`` over the draw of the n calibration rows. Raises
    ``UnsupportedAlphaError`` below ``min_rank``, where such a test could not reject at all.
    """
    _check_probability("delta", delta)
    rank = _largest_rank(n, alpha, delta) if 0 < alpha < 1 else 0
    if rank < min_rank:
        raise UnsupportedAlphaError(_unsupported(n, alpha, delta, min_rank))
    return rank


def pac_threshold(n: int, alpha: float, delta: float, min_rank: int = 1) -> float:
    """l' / (n + 1): reject iff p <= this. Below ``alpha`` whenever delta < 1/e."""
    return pac_rank(n, alpha, delta, min_rank) / (n + 1)


def smallest_alpha(n: int, delta: float, min_rank: int = 1) -> float:
    """The smallest alpha that ``pac_rank`` supports; 1, which is none, when n < ``min_rank``."""
    _check_probability("delta", delta)
    if n < min_rank:
        return 1.0
    alpha = float(betaincinv(min_rank, n + 1 - min_rank, 1 - delta))
    while not _holds(min_rank, n, alpha, delta):  # the inverse is a few ulp short at times
        alpha = min(1.0, alpha * (1 + 1e-13))
    return alpha


def rounded_up(alpha: float) -> float:
    """To three digits for readers, upwards: what is shown as supported is supported."""
    return float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(alpha))


def attained_rank(n: int, alpha: float) -> int:
    """floor((n + 1) alpha): how many of n + 1 ranks p <= alpha takes.

    The count of p <= alpha among m fresh rows is then beta-binomial(m; l, n + 1 - l). A two-sided p
    has even ranks alone: of those it takes 2 floor(l / 2).
    """
    near = math.floor((n + 1) * alpha)
    fits = [rank for rank in (near - 1, near, near + 1) if rank >= 0 and rank / (n + 1) <= alpha]
    return max(fits, default=0)  # by the comparison p <= alpha itself, not by its rounding


def beta_binomial_interval(m: int, rank: int, n: int, level: float) -> tuple[int, int]:
    """Central interval, at least ``level``, of the rejections among m fresh exchangeable rows.

    They are beta-binomial(m; rank, n + 1 - rank): wider than binomial, since the n reference rows
    are themselves a draw. Bounds are counts in [0, m], both included.
    """
    _check_probability("level", level)
    if not 0 < rank <= n:
        bound = 0 if rank <= 0 else m
        return bound, bound
    cdf = np.cumsum(betabinom(m, rank, n + 1 - rank).pmf(np.arange(m + 1)))
    tail = (1 - level) / 2
    low, high = np.searchsorted(cdf, [tail, 1 - tail])
    return int(low), int(min(high, m))


def _holds(rank: int, n: int, alpha: float, delta: float) -> bool:
    return bool(betainc(rank, n + 1 - rank, alpha) >= 1 - delta)


@lru_cache(maxsize=4096)  # a request may bring its own alpha; most bring the same few
def _largest_rank(n: int, alpha: float, delta: float) -> int:
    """Bisection: the probability falls as the rank grows. Rank 0 rejects nothing and holds."""
    low, high = 0, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _holds(middle, n, alpha, delta) else (low, middle)
    return low


def _unsupported(n: int, alpha: float, delta: float, min_rank: int) -> str:
    smallest = smallest_alpha(n, delta, min_rank)
    shown = rounded_up(smallest)
    remedy = (
        f"the smallest supported alpha is {shown if shown < 1 else smallest!r}"
        if smallest < 1
        else "so few support no alpha at all; calibrate on more rows"
    )
    fault = "is too small for" if 0 < alpha < 1 else "is not between 0 and 1; with"
    return f"alpha {alpha!r} {fault} n = {n} reference scores at delta = {delta!r}: {remedy}"


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise CalibrationError(f"{name}: found {value!r}, expected a number between 0 and 1")


def histogram_band(bins: int, n: int, m: int, level: float) -> tuple[IntArray, IntArray]:
    """Bounds (bins,) of the counts of m typical images in bins of p, ranked among n: low and high.

    Bin b holds p in (b / bins, (b + 1) / bins], r of the n + 1 ranks, so beta-binomial(m; r,
    n + 1 - r) images. Each bin for itself is within its bounds, both included, with ``level``.
    """
    ranks = np.diff([attained_rank(n, b / bins) for b in range(bins)] + [n + 1]).tolist()
    known = {rank: beta_binomial_interval(m, rank, n, level) for rank in set(ranks)}
    low, high = np.array([known[rank] for rank in ranks], dtype=np.int64).T
    return low, high
