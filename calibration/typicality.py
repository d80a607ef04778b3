"""The two-sided typicality test made exact: how far in the tails of known scores a score lies.

The paper (Mackowiak et al., CVPR 2021) rejects an image whose log p(x) is unusually low *or high*
and reads its p-value off the training scores. Exact here: the rank is taken among held-out scores,
the tested one counted in (Vovk et al., "Algorithmic Learning in a Random World", 2005), so that
P(p <= t) <= t whatever the score is. This file counts; ``conformal`` says what a rank promises.

References are sorted, finite, ascending; a small rank or p means atypical. A score that is not
finite is a stranger: it gets the smallest rank, never the largest.
"""

from __future__ import annotations

import numpy as np

from calibration.arrays import FloatArray, IntArray


def two_sided_rank(reference: FloatArray, scores: FloatArray) -> IntArray:
    """min(n + 1, 2 min(1 + #{s_i <= s}, 1 + #{s_i >= s})), even or n + 1; scores (N,) -> (N,).

    The integer behind ``p_typicality``, free of rounding; never below 2.
    """
    ranks: IntArray = np.minimum(2 + 2 * _tail(reference, scores), len(reference) + 1)
    return ranks


def p_typicality(reference: FloatArray, scores: FloatArray) -> FloatArray:
    """min(1, 2 min(p_low, p_high)) in [2 / (n + 1), 1], with p_low = (1 + #{s_i <= s}) / (n + 1).

    Exact for exchangeable scores, ties included (they only make it larger).
    """
    return two_sided_rank(reference, scores) / (len(reference) + 1)


def p_train(reference: FloatArray, scores: FloatArray) -> FloatArray:
    """The paper's plain fraction, min(1, 2 min(#{s_i <= s}, #{s_i >= s}) / n), in [0, 1].

    Meant for training scores: a diagnosis, not a test, since the network has fitted them. NaN for
    every score when the reference is empty.
    """
    if not len(reference):
        return np.full(scores.shape, np.nan)
    return np.minimum(2 * _tail(reference, scores) / len(reference), 1.0)


def _tail(reference: FloatArray, scores: FloatArray) -> IntArray:
    """min(#{s_i <= s}, #{s_i >= s}). NaN sorts after every number, so it counts 0, as inf does."""
    low = np.searchsorted(reference, scores, side="right")
    high = len(reference) - np.searchsorted(reference, scores, side="left")
    return np.minimum(low, high)
