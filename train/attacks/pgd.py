"""Projected gradient descent, plain and against the gate.

- ``pgd``: Madry et al., ICLR 2018; it knows the classifier alone.
- ``selective_pgd``, orthogonal or not: Bryniarski et al., "Evading Adversarial Example Detection
  Defenses with Orthogonal Projected Gradient Descent", ICLR 2022. Each step climbs one of two: the
  margin of another class while the class is still right, else descends the gate's score until the
  image is let in. Orthogonal: without what the step would do to the other.
- ``ood_to_id``: only the score is descended, of images that are no images of the data.

``pgd`` gives its last point, the others the best of those that are what is wanted, else the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from train.attacks.attacked import Attacked
from train.attacks.ball import Ball
from train.attacks.losses import cross_entropy, gradient, margin, picked


class Judged(Protocol):
    """What a gate finds: ``logits`` (B, K) and ``score`` S (B,), float64, larger = stranger."""

    @property
    def logits(self) -> Tensor:
        """(B, K)."""
        ...

    @property
    def score(self) -> Tensor:
        """(B,)."""
        ...


#: Pixels (B, C, H, W) in [0, 1] to what a gate finds, with gradients.
Gate = Callable[[Tensor], Judged]

#: Told the current point of each step.
Watch = Callable[[Tensor], None]

#: How far below its limit S has to be for an image to be let in whatever is rounded.
ENOUGH = 0.02


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
    gate: Gate,
    x: Tensor,
    labels: Tensor,
    ball: Ball,
    steps: Steps,
    seed: int,
    *,
    limit: Tensor,
    watch: Watch | None = None,
    orthogonal: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    """``limit`` (K,): S above which an image predicted as that class is rejected. ``start``: where
    to begin, as near as the ball allows; a random place of it if left out."""

    def wanted(judged: Judged, which: Tensor) -> Tensor:
        return margin(judged.logits, labels[which]) > 0

    def way(judged: Judged, which: Tensor, at: Tensor, wrong: Tensor) -> Tensor:
        return _way(judged.logits, judged.score, labels[which], wrong, at, orthogonal=orthogonal)

    begin = _begin(x, ball, seed) if start is None else ball.project(start, x)
    return _let_in(gate, x, begin, ball, steps, limit, wanted, way, watch)


def ood_to_id(
    gate: Gate, x: Tensor, ball: Ball, steps: Steps, seed: int, *, limit: Tensor
) -> Tensor:
    """Strangers on their way to be accepted, as whatever class."""

    def wanted(judged: Judged, which: Tensor) -> Tensor:
        return torch.ones(len(which), dtype=torch.bool)

    def way(judged: Judged, which: Tensor, at: Tensor, wrong: Tensor) -> Tensor:
        return -gradient(judged.score, at)

    return _let_in(gate, x, _begin(x, ball, seed), ball, steps, limit, wanted, way, None)


#: Of the images ``which`` (b,) as they are judged: whether each is what the attack wants, (b,).
Wanted = Callable[[Judged, Tensor], Tensor]
#: Where to go with the images ``which`` at ``at`` (b, C, H, W), given what is wanted of them, (b,).
Way = Callable[[Judged, Tensor, Tensor, Tensor], Tensor]


def _let_in(
    gate: Gate,
    x: Tensor,
    begin: Tensor,
    ball: Ball,
    steps: Steps,
    limit: Tensor,
    wanted: Wanted,
    way: Way,
    watch: Watch | None,
) -> Tensor:
    """Of each image the wanted point with the least S beside its limit; one that is let in by
    ``ENOUGH`` goes no further."""
    at, best = begin.clone(), begin.clone()
    least = torch.full((len(x),), torch.inf, dtype=torch.float64)
    which = torch.arange(len(x))
    for size in steps.sizes():
        if watch is not None:
            watch(at.clone())
        if not len(which):
            continue
        here = at[which].requires_grad_()
        judged = gate(here)
        excess = (judged.score - limit[judged.logits.argmax(1)]).detach()
        good = wanted(judged, which)
        better = good & (excess < least[which])
        best[which] = picked(better, here.detach(), best[which])
        least[which] = torch.where(better, excess, least[which])
        move = way(judged, which, here, good)
        at[which] = ball.project(here.detach() + size * ball.direction(move), x[which])
        which = which[least[which] > -ENOUGH]
    return picked(torch.isinf(least), at, best)


def _begin(x: Tensor, ball: Ball, seed: int) -> Tensor:
    return ball.somewhere(x, torch.Generator().manual_seed(seed))


def _way(
    logits: Tensor, score: Tensor, labels: Tensor, wrong: Tensor, at: Tensor, *, orthogonal: bool
) -> Tensor:
    # the margin, since a cross-entropy of classes that are sure has no gradient left
    loss = margin(logits, labels).double()
    if not orthogonal:
        return gradient(torch.where(wrong, -score, loss), at)
    classify, typical = gradient(loss, at, again=True), -gradient(score, at)
    chosen, other = picked(wrong, typical, classify), picked(wrong, classify, typical)
    along = (chosen * other).flatten(1).sum(1) / other.flatten(1).square().sum(1).clamp_min(1e-20)
    return chosen - along[:, None, None, None] * other
