"""What the model has in mind: class prototypes, and an image on its way to another class.

A prototype is f^-1(mu_y). A counterfactual moves the latent code along mu_target - mu_source and
leaves all else as it is: that is the normal of the boundary between the two, so no shorter way
changes their odds as much, and the image keeps what distinguishes it from others of its class. The
log-odds grow by |mu_target - mu_source|^2 over the whole way, so the step for any odds is known
without a search.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.classifier import GenerativeClassifier


@torch.no_grad()
def prototypes(classifier: GenerativeClassifier, labels: Tensor) -> Tensor:
    """f^-1(mu_y) of classes (B,): pixels (B, C, H, W), not clamped to [0, 1]."""
    return classifier.flow.inverse(classifier.class_means.of(labels))[0]


@torch.no_grad()
def counterfactuals(
    classifier: GenerativeClassifier, z: Tensor, source: int, target: int, log_odds: Tensor
) -> Tensor:
    """One image with other log-odds of ``target`` over ``source``, all else kept.

    ``z`` (D,) is its latent code, ``log_odds`` (S,) in nats: 0 lies on the boundary, above it the
    target is the more probable. Pixels (S, C, H, W), not clamped to [0, 1]. Raises ``ValueError``
    for a class against itself.
    """
    if source == target:
        raise ValueError(f"source and target are both class {source}: expected two classes")
    ends = torch.tensor([source, target], device=z.device)
    first, second = classifier.class_means.of(ends)
    way = second - first
    logits = classifier.of_latent(z[None], z.new_zeros(1)).logits[0]
    steps = (log_odds.to(z) - (logits[target] - logits[source])) / way.square().sum()
    return classifier.flow.inverse(z + steps[:, None] * way)[0]
