"""Adversarial training: some images of each batch as an attacker of the classes would have them.

Projected gradient descent in an l_inf ball on the cross-entropy of the true class, with a random
start (Madry et al., ICLR 2018), in few steps (Wong, Rice and Kolter, ICLR 2020: one of 1.25 of the
ball can be enough). Half of a batch is moved and counts in the class loss alone: what an attacker
has made is to be classified, not to be typical.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from train.attacks.ball import Ball
from train.attacks.losses import cross_entropy, gradient

#: Of a batch, the share that is moved.
SHARE = 0.5

#: Lengths of steps in units of the ball: their sum, and the longest.
TOGETHER, LONGEST = 2.5, 1.25


def moved_images(count: int) -> int:
    """How many of the ``count`` images of a batch are moved: the first ones."""
    return int(SHARE * count)


def adversarial(
    logits: Callable[[Tensor], Tensor], pixels: Tensor, labels: Tensor, *, eps: float, steps: int
) -> Tensor:
    """Pixels (B, C, H, W) in [0, 1], moved by at most ``eps`` each towards another class than
    ``labels`` (B,). Starts are drawn by torch's own generator. Weights get no gradient."""
    ball = Ball("linf", eps)
    size = eps * min(LONGEST, TOGETHER / steps)
    at = ball.project(pixels + eps * (2 * torch.rand_like(pixels) - 1), pixels)
    for _ in range(steps):
        at = at.detach().requires_grad_()
        way = gradient(cross_entropy(logits(at).float(), labels), at)
        at = ball.project(at.detach() + size * ball.direction(way), pixels)
    return at.detach()
