"""The generative classifier: a flow, class means, a prior, and Bayes' rule.

log p(x | y) = log N(f(x); mu_y, 1) + log|det J_f(x)|, so with w_y = log p(y)

    logits_y = z . mu_y - |mu_y|^2 / 2 + w_y            (|z|^2 cancels between classes)
    log p(x) = logsumexp_y logits_y - |z|^2 / 2 - (D/2) ln 2 pi + log|det J|

(Mackowiak et al., CVPR 2021, with the signs of their Eqs. 6 and 7 put right.) The squared
distances are never formed to be subtracted: at large D that loses tenths of nats in float32.
Densities are of pixels scaled to [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.class_means import ClassMeans, build_class_means
from model.config import FlowConfig
from model.flow import build_flow
from model.quantize import bin_centres
from model.transforms import Traced, full_precision

Density = TypeVar("Density", float, npt.NDArray[np.float64])


@dataclass(frozen=True, kw_only=True)
class ClassifierOutput:
    """What one forward pass gives. B images, K classes, D dimensions.

    ``logits`` (B, K): log p(x | y) + log p(y) up to a constant shared by all classes, nats.
    ``log_prob`` (B,): log p(x), nats, float64. ``z`` (B, D): latent code. ``ladj`` (B,):
    log|det J| of the flow, nats. ``trace``: the flow's way there, where it was asked for.
    """

    logits: Tensor
    log_prob: Tensor
    z: Tensor
    ladj: Tensor
    trace: Traced | None = None


class GenerativeClassifier(nn.Module):
    """p(x, y) as an invertible network with one unit Gaussian a class in its latent space."""

    class_means: ClassMeans
    log_prior: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.flow = build_flow(config)
        self.class_means = build_class_means(config)
        uniform = torch.full((config.n_classes,), -math.log(config.n_classes))
        self.register_buffer("log_prior", uniform)

    def forward(self, x: Tensor, *, traced: bool = False) -> ClassifierOutput:
        """Pixels (B, C, H, W) in [0, 1] to logits, density and latent code."""
        trace = self.flow.trace(x) if traced else None
        z, ladj = (trace.z, trace.ladj) if trace else self.flow(x)
        return self.of_latent(z, ladj, trace)

    def of_latent(self, z: Tensor, ladj: Tensor, trace: Traced | None = None) -> ClassifierOutput:
        """The flow's latent codes (B, D) and log-determinants (B,) to logits and density."""
        with full_precision(z):
            means = self.class_means
            logits = means.inner(z) - 0.5 * means.square_norm() + self.log_prior
        half_norm = 0.5 * z.double().square().sum(1)
        constant = 0.5 * self.config.dim * math.log(2 * math.pi)
        log_prob = logits.double().logsumexp(1) - half_norm - constant + ladj.double()
        return ClassifierOutput(logits=logits, log_prob=log_prob, z=z, ladj=ladj, trace=trace)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_prior.device

    def classify(self, images: Tensor, *, traced: bool = False) -> ClassifierOutput:
        """uint8 images (B, C, H, W), at their bin centres: the serving path, free of noise."""
        x = bin_centres(images, self.config.levels)
        return self(x, traced=traced)  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw x ~ p(x | y) for each label (B,) by inverting z ~ N(mu_y, 1).

        Returns pixels (B, C, H, W), not clamped: values outside [0, 1] show where the model puts
        mass that no image has.
        """
        means = self.class_means.of(labels)
        noise = torch.randn(means.shape, generator=generator, device=generator_device(generator))
        return self.flow.inverse(means + noise.to(means))[0]


def generator_device(generator: torch.Generator | None) -> torch.device:
    """Where a generator draws; noise is drawn there and moved, so that a seed means one draw."""
    return torch.device("cpu") if generator is None else generator.device


def bits_per_dim(log_prob: Density, config: FlowConfig) -> Density:
    """log_prob, one or an array of them (nats, pixels in [0, 1]), as bits per dimension of an image
    with L grey levels."""
    return math.log2(config.levels) - log_prob / (config.dim * math.log(2))
