"""Square attack on the final decision (Andriushchenko et al., ECCV 2020): answers, no network.

Random squares of plus or minus eps are kept where they bring the answer nearer to what is wanted,
which is another class, and let in. An answer is what every client gets: posterior, p-value and
threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.decisions import Decisions
from model.image import UInt8Array

#: Share of the image that the first squares cover, and when it is halved, of 10,000 queries.
_SHARE = 0.1
_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

Ask = Callable[[UInt8Array], Decisions]


def square(
    ask: Ask, images: UInt8Array, labels: IntArray, eps: int, queries: int, seed: int
) -> UInt8Array:
    """uint8 images (B, C, H, W) that differ by at most ``eps`` grey levels, after so many queries
    an image; of each the nearest to what is wanted."""
    random = np.random.default_rng(seed)
    count, channels, height, width = images.shape
    clean = images.astype(np.int16)
    stripes = random.choice([-eps, eps], (count, channels, 1, width))
    best: UInt8Array = (clean + stripes).clip(0, 255).astype(np.uint8)
    least = _lacking(ask(best), labels)
    for query in range(1, queries):
        open_ = np.flatnonzero(least > 0)
        if not len(open_):
            break
        side = _side(query / queries, height, width)
        tried = best[open_].astype(np.int16)
        for i, row in enumerate(open_):
            top = random.integers(0, height - side + 1)
            left = random.integers(0, width - side + 1)
            window = np.s_[:, top : top + side, left : left + side]
            change = random.choice([-eps, eps], (channels, 1, 1))
            tried[i][window] = clean[row][window] + change
        candidates = tried.clip(0, 255).astype(np.uint8)
        found = _lacking(ask(candidates), labels[open_])
        better = found < least[open_]
        best[open_[better]], least[open_[better]] = candidates[better], found[better]
    return best


def _side(done: float, height: int, width: int) -> int:
    """Pixels on a side of a square after a share ``done`` of the queries."""
    halvings = sum(done * 10_000 > at for at in _HALVED)
    side = round(math.sqrt(_SHARE / 2**halvings * height * width))
    return max(1, min(side, height, width))


def _lacking(answers: Decisions, labels: IntArray) -> FloatArray:
    """How much is missing to what is wanted, 0 where it is reached: (B,)."""
    rows = np.arange(len(labels))
    own = answers.posterior[rows, labels]
    others = answers.posterior.copy()
    others[rows, labels] = -np.inf
    still_right = answers.class_index == labels
    lead = np.where(still_right, np.maximum(own - others.max(axis=1), 1e-9), 0.0)
    below = np.where(answers.rejected, 1 - answers.p_value / (2 * answers.threshold), 0.0)
    return lead + below
