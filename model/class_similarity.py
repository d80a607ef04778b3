"""How alike the classes are to the model: distances of their means, and what they do to confidence.

Two classes of equal prior whose unit Gaussians are Delta apart: where one of them wins, the other
is right in a share Phi(-Delta / 2) of cases, which is the confidence that the model gives it there
on average. 1.68 apart: 20%; 3.5: 4%; 5: 0.6% (Mackowiak et al., CVPR 2021, Fig. 4, for the
picture).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.classifier import GenerativeClassifier


@torch.no_grad()
def mean_distances(classifier: GenerativeClassifier) -> Tensor:
    """|mu_i - mu_j| (K, K), float64, in standard deviations of a class; 0 on the diagonal."""
    gram = classifier.class_means.gram().double()
    squares = gram.diagonal()
    distances: Tensor = (squares[:, None] + squares - 2 * gram).clamp_min(0).sqrt()
    return distances.fill_diagonal_(0)


def expected_confidence(distances: Tensor) -> Tensor:
    """Phi(-Delta / 2) of distances: the other's mean posterior where one of two classes wins.

    In [0, 0.5], 0.5 for equal classes; higher = more alike.
    """
    confidence: Tensor = torch.special.ndtr(-distances / 2)
    return confidence
