"""Outlier exposure: a small network that tells rows of fit from distorted copies of them.

Densities of statistics know what is typical and not which ways of being untypical matter, and a
small move along one of fifty directions is lost among the others. A classifier that is shown
synthetic outliers (Hendrycks, Mazeika and Dietterich, ICLR 2019) learns those directions. It is
shown distorted copies of fit rows alone, so that p-values stay exact, and it is one view of S
among others (``calibration.combined_score``), since it may take a stranger of another kind for
known.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.arrays import FloatArray, IntArray

#: Units of the hidden layers, rectified.
HIDDEN = (64, 64)
#: Normal scores beyond it are taken for it: no outlier is needed to tell those.
FARTHEST = 8.0
#: Of training: Adam's rate, rows of a batch, weight of the L2 penalty, seed.
RATE, BATCH, PENALTY, SEED = 3e-3, 256, 1e-2, 0
#: Batches in all, but no more epochs than the second.
BATCHES, EPOCHS = 2000, 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Outliers:
    """Distorted copies of fit rows: ``values`` name -> (m,), ``of`` (m,): which row each is of."""

    values: Mapping[str, npt.ArrayLike]
    of: IntArray

    def __len__(self) -> int:
        return len(self.of)


@dataclass(frozen=True, kw_only=True, eq=False)
class OutlierNet:
    """``weights`` (S, H1), (H1, H2), (H2, 1) and ``biases`` (H1,), (H2,), (1,)."""

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    @classmethod
    def fit(cls, known: FloatArray, outliers: FloatArray) -> OutlierNet:
        """On normal scores (n, S) and (m, S), by cross-entropy."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        rows = _bounded(np.concatenate([known, outliers]))
        batch = min(BATCH, len(rows))
        net = MLPClassifier(
            HIDDEN,
            alpha=PENALTY,
            batch_size=batch,
            learning_rate_init=RATE,
            max_iter=min(EPOCHS, math.ceil(BATCHES * batch / len(rows))),
            random_state=SEED,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # so many steps are meant
            net.fit(rows, np.repeat([0, 1], [len(known), len(outliers)]))
        return cls(
            weights=tuple(np.asarray(w, np.float64) for w in net.coefs_),
            biases=tuple(np.asarray(b, np.float64) for b in net.intercepts_),
        )

    def __call__(self, normal: FloatArray) -> FloatArray:
        """Log-odds (N,) of normal scores (N, S) to be of an outlier, higher = more like one."""
        at = _bounded(normal)[:, None]  # a product a row: sums as in any other batch
        for layer, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            at = (np.maximum(at, 0) if layer else at) @ weights + biases
        found: FloatArray = at[:, 0, 0]
        return found


def _bounded(normal: FloatArray) -> FloatArray:
    return np.clip(normal, -FARTHEST, FARTHEST)
