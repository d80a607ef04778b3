"""What attacks climb or descend, (B,) each, gradients of it, and choices image by image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log q(label | x), nats; to climb it is to leave the label."""
    return nnf.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Best other logit minus the label's: above 0 the class is another one."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - own


def gradient(loss: Tensor, x: Tensor, *, again: bool = False) -> Tensor:
    """Of each image's loss to its pixels; ``again``: the graph is needed once more."""
    (found,) = torch.autograd.grad(loss.sum(), x, retain_graph=again)
    return found.nan_to_num()


def picked(flags: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Images (B, C, H, W) of ``yes`` where ``flags`` (B,) are set, else of ``no``."""
    return torch.where(flags[:, None, None, None], yes, no)
