"""Projected gradient descent, plain and against the gate.

- ``pgd``: Madry et al., ICLR 2018; it knows the classifier alone.
- ``selective_pgd``, ``orthogonal_pgd``: Bryniarski et al., "Evading Adversarial Example Detection
  Defenses with Orthogonal Projected Gradient Descent", ICLR 2022. Each step climbs one of two: the
  classifier's loss while the class is still right, else descends the gate's score where it is still
  above the place of rejection. Orthogonal: without what the step would do to the other.
- ``ood_to_id``: only the score is descended, of images that are no images of the data.

All give the last point that both is what is wanted, where there was one on the way, else the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from train.attacks.attacked import Attacked
from train.attacks.ball import Ball
from train.attacks.gate import SmoothGate
from train.attacks.losses import cross_entropy, gradient, margin, picked

#: Told the current point of each step.
Watch = Callable[[Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """``count`` of them, each of length ``size`` in the ball's norm, falling to a tenth of it."""

    count: int
    size: float

    def sizes(self) -> Iterator[float]:
        """The length of each."""
        for i in range(self.count):
            yield self.size * 0.1 ** (i / max(self.count - 1, 1))


def pgd(
    attacked: Attacked,
    x: Tensor,
    labels: Tensor,
    ball: Ball,
    steps: Steps,
    seed: int,
    *,
    watch: Watch | None = None,
) -> Tensor:
    """Climbs the cross-entropy of the true class; images (B, C, H, W) in [0, 1]."""
    at = ball.somewhere(x, torch.Generator().manual_seed(seed))
    for size in steps.sizes():
        at = at.detach().requires_grad_()
        if watch is not None:
            watch(at.detach())
        way = gradient(cross_entropy(attacked.look(at)[0], labels), at)
        at = ball.project(at.detach() + size * ball.direction(way), x)
    return at


def selective_pgd(
    gate: SmoothGate,
    x: Tensor,
    labels: Tensor,
    ball: Ball,
    steps: Steps,
    seed: int,
    *,
    limit: Tensor,
    watch: Watch | None = None,
    orthogonal: bool = False,
) -> Tensor:
    """``limit`` (K,): S above which an image predicted as that class is rejected."""
    at = ball.somewhere(x, torch.Generator().manual_seed(seed))
    best, least = at.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64)
    for size in steps.sizes():
        at = at.detach().requires_grad_()
        judged = gate(at)
        wrong = margin(judged.logits, labels) > 0
        excess = judged.score - limit[judged.logits.argmax(1)]
        better = wrong & (excess < least)
        best, least = picked(better, at.detach(), best), torch.where(better, excess, least).detach()
        if watch is not None:
            watch(at.detach())
        way = _way(judged.logits, judged.score, labels, wrong, at, orthogonal=orthogonal)
        at = ball.project(at.detach() + size * ball.direction(way), x)
    return picked(torch.isinf(least), at, best)


def ood_to_id(
    gate: SmoothGate, x: Tensor, ball: Ball, steps: Steps, seed: int, *, limit: Tensor
) -> Tensor:
    """Strangers on their way to be accepted, as whatever class."""
    at = ball.somewhere(x, torch.Generator().manual_seed(seed))
    best, least = at.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64)
    for size in steps.sizes():
        at = at.detach().requires_grad_()
        judged = gate(at)
        excess = judged.score - limit[judged.logits.argmax(1)]
        better = excess < least
        best, least = picked(better, at.detach(), best), torch.where(better, excess, least).detach()
        way = -gradient(judged.score, at)
        at = ball.project(at.detach() + size * ball.direction(way), x)
    return best


def _way(
    logits: Tensor, score: Tensor, labels: Tensor, wrong: Tensor, at: Tensor, *, orthogonal: bool
) -> Tensor:
    loss = cross_entropy(logits, labels).double()
    if not orthogonal:
        return gradient(torch.where(wrong, -score, loss), at)
    classify, typical = gradient(loss, at, again=True), -gradient(score, at)
    chosen, other = picked(wrong, typical, classify), picked(wrong, classify, typical)
    along = (chosen * other).flatten(1).sum(1) / other.flatten(1).square().sum(1).clamp_min(1e-20)
    return chosen - along[:, None, None, None] * other
