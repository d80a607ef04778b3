"""S of the reference as a histogram, with the place from which on images are rejected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.modes import PREDICTED_CLASS

#: Bars of a histogram.
BARS = 60
#: Share of the reference that lies below the first edge, and above the last.
OUTER = 0.002


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreHistogram:
    """``edges`` (n + 1,) ascending and ``counts`` (n,) of reference rows; those beyond the edges
    are in the outermost bars. An image with S above ``rejected_above`` is rejected."""

    edges: FloatArray
    counts: IntArray
    rejected_above: float


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """S of the calibration rows, and the class that each is predicted as."""

    calibration: Calibration
    scores: FloatArray
    predicted: IntArray

    @classmethod
    def of(cls, calibration: Calibration) -> ReferenceScores:
        """Computed anew, which takes a while."""
        logits, log_prob, statistics = calibration.held_out()
        predicted = calibration.posterior(logits).argmax(axis=1)
        return cls(calibration, calibration.scores(logits, log_prob, statistics), predicted)

    def histogram(self, predicted: int, threshold: float) -> ScoreHistogram:
        """What an image of that predicted class is ranked among at that p-value threshold.

        Rows of its class alone in mode predicted_class, else all of them.
        """
        scores = self.scores[self._ranked_with(predicted) & np.isfinite(self.scores)]
        rank, size = self.calibration.ranking.rank(scores, np.full(len(scores), predicted))
        kept = scores[rank / (size + 1) > threshold]
        low, high = np.quantile(scores, [OUTER, 1 - OUTER])
        edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
        counts = np.histogram(scores.clip(edges[0], edges[-1]), edges)[0]
        above = float(kept.max()) if len(kept) else -np.inf
        return ScoreHistogram(edges=edges, counts=counts, rejected_above=above)

    def _ranked_with(self, predicted: int) -> BoolArray:
        if self.calibration.mode != PREDICTED_CLASS:
            return np.ones(len(self.scores), dtype=np.bool_)
        return np.equal(self.predicted, predicted)
