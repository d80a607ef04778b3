"""Named statistics that the forward pass gives the gate at no further cost.

Each is a (B,) tensor in float64. The p-value of a verdict does not use them yet; the verdict
names the most unusual ones.
"""

from __future__ import annotations

from torch import Tensor

from model.class_means import ClassMeans
from model.classifier import ClassifierOutput

#: Steps to which scores are rounded, in their own units. Float32 sums differ in their last bits
#: with the size of the batch; so that a rank among stored scores does not, even for an image that
#: is itself among them, the steps are far above such differences and far below any score's spread.
#: A score at the edge of a step may still move by one of them.
RESOLUTION = {
    "log_prob": 1e-2,
    "ladj": 1e-2,
    "log_prob_z": 1e-2,
    "class_distance": 1e-4,
    "margin": 1e-2,
    "entropy": 1e-4,
}


def statistics(output: ClassifierOutput, class_means: ClassMeans) -> dict[str, Tensor]:
    """The statistics of a batch by name.

    ``ladj``: log|det J|, nats. ``log_prob_z``: log density of the latent code, nats; the two add
    up to log_prob. ``class_distance``: |z - mu_y|^2 / D of the predicted class (1 on average for
    a perfect model; higher = further out). ``margin``: difference of the two largest logits, nats
    (lower = more ambiguous; 0 with a single class). ``entropy``: of the uncalibrated posterior,
    nats (higher = more ambiguous).
    """
    logits = output.logits.double()
    ladj = output.ladj.double()
    top, index = logits.sort(dim=1, descending=True)
    log_posterior = logits.log_softmax(1)
    nearest = class_means.of(index[:, 0])
    return {
        "ladj": ladj,
        "log_prob_z": output.log_prob - ladj,
        "class_distance": (output.z - nearest).double().square().mean(1),
        "margin": top[:, 0] - top[:, min(1, logits.shape[1] - 1)],
        "entropy": -(log_posterior.exp() * log_posterior).sum(1),
    }
