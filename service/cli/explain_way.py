"""The way of an image to another class: counterfactuals, what the gate says of each, prototypes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import FloatArray
from model.counterfactuals import counterfactuals, prototypes
from model.image import UInt8Array
from model.quantize import as_input
from service.predictor import Predictor
from service.verdict import Verdict

#: Images from the given one to the boundary, both among them; as many go from there on.
STEPS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """From ``source`` to ``target``, n = 2 ``STEPS`` - 1 images, the first the given one.

    ``images``: uint8 (n, C, H, W). ``shares`` (n,): the target's part of the two classes'
    posterior; one half in the middle. ``verdicts``: of each. ``prototypes`` (2, C, H, W): of the
    two classes, pixels as the model inverts to them.
    """

    source: str
    target: str
    images: UInt8Array
    shares: FloatArray
    verdicts: tuple[Verdict, ...]
    prototypes: FloatArray


@torch.no_grad()
def way_to(predictor: Predictor, z: Tensor, source: int, target: int) -> Way:
    """Of an image with latent code ``z`` (D,), to about the odds that the target's images have."""
    bundle = predictor.bundle
    classifier, labels = bundle.checkpoint.classifier, bundle.class_labels
    log_odds = _log_odds(predictor, z, source, target)
    made = counterfactuals(classifier, z, source, target, log_odds)
    ends = prototypes(classifier, torch.tensor([source, target], device=z.device))
    images = as_input(made, bundle.spec.levels)
    temperature = bundle.calibration.posterior.temperature
    return Way(
        source=labels[source],
        target=labels[target],
        images=images,
        shares=torch.sigmoid(log_odds / temperature).cpu().numpy(),
        verdicts=tuple(predictor(images)),
        prototypes=ends.double().nan_to_num(0).cpu().numpy(),
    )


def _log_odds(predictor: Predictor, z: Tensor, source: int, target: int) -> Tensor:
    """Float64, even steps from the image's own to 0, and on to those of the target's mean, |mu_t -
    mu_s|^2 / 2 with equal priors, or as far as the image was from the boundary."""
    classifier = predictor.bundle.checkpoint.classifier
    logits = classifier.of_latent(z[None], z.new_zeros(1)).logits[0].double()
    own = float(logits[target] - logits[source])
    first, second = classifier.class_means.of(torch.tensor([source, target], device=z.device))
    end = max(float((second - first).double().square().sum()) / 2, abs(own), 1.0)
    if own < 0:
        steps = np.r_[np.linspace(own, 0, STEPS), np.linspace(0, end, STEPS)[1:]]
    else:  # vector scaling predicts another class than the logits
        steps = np.linspace(own, own + end, 2 * STEPS - 1)
    return torch.from_numpy(steps).to(z.device)
