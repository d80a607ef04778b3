"""S of the reference as a histogram, with the place from which on images are rejected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.modes import Ranking

#: Bars of a histogram.
BARS = 60
#: Share of the reference that lies beyond the first edge, and beyond the last.
OUTER = 0.002


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreHistogram:
    """``edges`` (n + 1,) ascending and ``counts`` (n,) of reference rows; those beyond the edges
    are in the outermost bars. An image with S above ``rejected_above`` is rejected."""

    edges: FloatArray
    counts: IntArray
    rejected_above: float


def score_histogram(ranking: Ranking, predicted: int, threshold: float) -> ScoreHistogram:
    """What an image of that predicted class is ranked among, at that threshold of p-values.

    Rows of its class alone in mode predicted_class, else those of all classes. ``rejected_above``
    is the largest S that is still kept, -inf where none is.
    """
    scores = ranking.known(predicted)
    rank, size = ranking.rank(scores, np.full(len(scores), predicted))
    kept = scores[rank / (size + 1) > threshold]
    low, high = np.quantile(scores, [OUTER, 1 - OUTER])
    edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    return ScoreHistogram(
        edges=edges,
        counts=np.histogram(scores.clip(edges[0], edges[-1]), edges)[0],
        rejected_above=float(kept.max()) if len(kept) else -np.inf,
    )
