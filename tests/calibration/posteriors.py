"""Posteriors that tests of metrics share."""

from __future__ import annotations

import numpy as np

from calibration.arrays import FloatArray, IntArray


def sample(rows: int = 900, classes: int = 4, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Calibrated posteriors: the truth is drawn from them."""
    rng = np.random.default_rng(seed)
    posterior = rng.dirichlet(np.full(classes, 0.5), size=rows)
    drawn = (posterior.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return posterior, drawn.clip(max=classes - 1)


def sharpened(posterior: FloatArray, power: float = 3) -> FloatArray:
    """Too sure of itself."""
    raised: FloatArray = posterior**power
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
