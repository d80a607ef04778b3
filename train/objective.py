"""The information-bottleneck objective of a generative classifier.

L_X = -[log p(x) + (D/2) ln 2 pi] / D     nats per dimension, the Gaussian's constant dropped
L_Y = cross-entropy of softmax(logits)    nats per image, not divided by D
loss = (L_X + beta L_Y) / (1 + beta)      beta = inf: L_Y alone

(Ardizzone et al., NeurIPS 2020; Mackowiak et al., CVPR 2021, Eqs. 6 and 7 with signs corrected.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as nnf

from model.classifier import ClassifierOutput


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Batch means: ``total`` is minimised, ``l_x`` nats per dimension, ``l_y`` nats per image."""

    total: Tensor
    l_x: Tensor
    l_y: Tensor


Number = TypeVar("Number", float, Tensor)


def density_loss(mean_log_prob: Number, dim: int) -> Number:
    """L_X in nats per dimension, of the mean log p(x) in nats of images of ``dim`` numbers."""
    return -(mean_log_prob / dim + 0.5 * math.log(2 * math.pi))


def class_share(beta: float) -> float:
    """The weight beta / (1 + beta) of L_Y in the loss; L_X has the rest. 1 for beta = inf."""
    return 1.0 if math.isinf(beta) else beta / (1 + beta)


def ib_loss(
    output: ClassifierOutput,
    labels: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
    moved: int = 0,
) -> Losses:
    """The loss of a batch; ``labels`` (B,) are class indices, ``beta`` is in [0, inf]. The first
    ``moved`` images, fewer than B, are an attacker's and have no part in L_X."""
    l_x = density_loss(output.log_prob[moved:].mean(), output.z.shape[1])
    l_y = nnf.cross_entropy(output.logits, labels, label_smoothing=label_smoothing)
    share = class_share(beta)
    # a weight of 0 leaves its term out: 0 times an overflow would be no number
    terms = [weight * term for weight, term in ((1 - share, l_x), (share, l_y.double())) if weight]
    total = torch.stack(terms).sum()
    return Losses(total=total, l_x=l_x, l_y=l_y)
