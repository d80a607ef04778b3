"""Auto-PGD (Croce and Hein, ICML 2020): momentum, and a step that halves where it no longer pays.

Checkpoints follow the paper: p_0 = 0, p_1 = .22, then p_j+1 = p_j + max(p_j - p_j-1 - .03, .06).
At each the step is halved where fewer than three quarters of the steps since the last one rose, or
where neither it nor the best loss has changed since; the next begins from the best point.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from train.attacks.attacked import Attacked
from train.attacks.ball import Ball
from train.attacks.losses import gradient, margin, picked

#: Share of rising steps below which a step is too long, and how much a point keeps of its way.
_RISING, _MOMENTUM = 0.75, 0.75


def apgd(
    attacked: Attacked, x: Tensor, labels: Tensor, ball: Ball, steps: int, seed: int
) -> Tensor:
    """Climbs the margin of the best other class; images (B, C, H, W) in [0, 1]."""
    at = ball.somewhere(x, torch.Generator().manual_seed(seed))
    loss, way = _looked(attacked, at, labels)
    best, best_loss, best_way = at, loss, way
    size = torch.full((len(x), 1, 1, 1), 2 * ball.eps)
    before, rises, last = at, torch.zeros(len(x)), 0
    size_then, best_then = size, best_loss
    checkpoints = _checkpoints(steps)
    for step in range(1, steps + 1):
        ahead = ball.project(at + size * ball.direction(way), x)
        keep = 1.0 if step == 1 else _MOMENTUM
        moved = ball.project(at + keep * (ahead - at) + (1 - keep) * (at - before), x)
        before, at = at, moved
        found, way = _looked(attacked, at, labels)
        rises, loss = rises + (found > loss), found
        better = loss > best_loss
        best, best_way = picked(better, at, best), picked(better, way, best_way)
        best_loss = torch.maximum(loss, best_loss)
        if step in checkpoints:
            idle = (size_then == size).flatten() & (best_then == best_loss)
            halve = (rises < _RISING * (step - last)) | idle
            size_then, best_then = size, best_loss
            size = picked(halve, size / 2, size)
            at, way = picked(halve, best, at), picked(halve, best_way, way)
            rises, last = torch.zeros(len(x)), step
    return best


def _looked(attacked: Attacked, at: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each image, and its gradient."""
    at = at.detach().requires_grad_()
    loss = margin(attacked.look(at)[0], labels)
    return loss.detach(), gradient(loss, at)


def _checkpoints(steps: int) -> set[int]:
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {math.ceil(share * steps - 1e-9) for share in shares[1:] if share <= 1}
