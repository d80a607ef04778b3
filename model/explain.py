"""Why the model answers as it does: everything about an image that its one forward pass holds.

Closed forms, no gradients and no second model. What is per image is here; what is of the model
alone is in ``model.class_similarity`` and ``model.counterfactuals``. The gate's own evidence, which
needs a reference, is in ``calibration.evidence``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.classifier import ClassifierOutput, GenerativeClassifier
from model.decision_plane import DecisionPlane, decision_plane
from model.heatmaps import Scaling, class_evidence, pool_of, posterior_heatmaps
from model.precision import full_convolutions
from model.quantize import bin_centres
from model.salience import energy, salience


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Of B images; K classes, H x W places of the last resolution.

    ``heatmaps`` (B, K, H, W): nats, float64, sum over space log q(y | x). ``salience`` (B, H, W):
    the same of log q(x). ``energy`` (B, H, W): 1 under the model, higher = less like the class
    there. ``plane``: the images among the means of their top classes. ``output``: what
    classification gives.
    """

    output: ClassifierOutput
    heatmaps: Tensor
    salience: Tensor
    energy: Tensor
    plane: DecisionPlane


@torch.no_grad()
def explain(
    classifier: GenerativeClassifier,
    images: Tensor,
    *,
    temperature: float = 1.0,
    scaling: Scaling | None = None,
    contrast: float = 1.0,
) -> Explanation:
    """Of uint8 images (B, C, H, W), at their bin centres, in the precision of the weights.

    ``temperature``, ``scaling`` and ``contrast`` are those of ``posterior_heatmaps``; the others
    are of the network's own logits.
    """
    x = bin_centres(images, classifier.config.levels).to(classifier.log_prior.dtype)
    with full_convolutions():
        z, ladj = classifier.flow.by_place(x)
        output = classifier.of_latent(z, ladj.sum((1, 2)))
        field = pool_of(classifier).inverse(z)[0]
        evidence = class_evidence(field, classifier)
        return Explanation(
            output=output,
            heatmaps=posterior_heatmaps(
                output.logits,
                evidence,
                temperature=temperature,
                scaling=scaling,
                contrast=contrast,
            ),
            salience=salience(field, output.logits, evidence, ladj),
            energy=energy(field, output.logits.argmax(1), classifier),
            plane=decision_plane(output, classifier),
        )
