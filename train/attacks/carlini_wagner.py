"""Carlini and Wagner's targeted l2 attack with the seed paper's detection term.

Minimises, over x' within [0, 1] (Carlini and Wagner, S&P 2017; Mackowiak et al., CVPR 2021, Eqs. 11
and 12),

    |x' - x|^2 + c L_class^kappa(x') + d L_detect(x')
    L_class^kappa = max(max_{i != t} logit_i - logit_t, -kappa)        (kappa inf: no bound)

with x' = (tanh(w) + 1) / 2 and c found by bisection for each image. The paper does not give
L_detect; here it is max(0, |log q(x') - m| / D - tau), m and tau the median and the largest usual
distance per dimension of the reference's log densities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibration.calibration import Calibration
from train.attacks.attacked import Attacked
from train.attacks.losses import margin, picked

#: Keeps tanh's inverse finite.
_EDGE = 1e-6
#: First weight of the class, and the factor until an image is first misclassified.
_FIRST_C, _GROWTH = 1.0, 10.0
#: Share of reference densities nearer to their median than tau.
_USUAL = 0.95


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``kappa`` >= 0 in nats, ``detection`` the weight d; ``searches`` values of c with ``steps``
    steps of Adam each."""

    kappa: float
    detection: float
    searches: int = 6
    steps: int = 150
    rate: float = 0.01


@dataclass(frozen=True)
class Density:
    """Where the reference's log densities lie: nats, and nats a dimension."""

    middle: float
    tau: float

    @classmethod
    def of(cls, calibration: Calibration, dim: int) -> Density:
        """Of the rows held out."""
        known = calibration.reference.held_out
        middle = float(np.median(known))
        return cls(middle, float(np.quantile(np.abs(known - middle), _USUAL)) / dim)


def carlini_wagner(
    attacked: Attacked, x: Tensor, targets: Tensor, settings: Settings, density: Density | None
) -> tuple[Tensor, Tensor]:
    """The nearest images found that are classified as ``targets`` (B,), with the class margin that
    kappa asks for, and which were found (B,); others are as they were.

    ``density``: where the reference lies, which a detection weight needs.
    """
    c, low = torch.full((len(x),), _FIRST_C), torch.zeros(len(x))
    high = torch.full((len(x),), math.inf)
    best, least = x.clone(), torch.full((len(x),), math.inf)
    for _ in range(settings.searches):
        found, distance = _minimised(attacked, x, targets, c, settings, density)
        good = distance < least
        best = picked(good, found, best)
        least = torch.minimum(distance, least)
        hit = distance.isfinite()
        high, low = torch.where(hit, c, high), torch.where(hit, low, c)
        c = torch.where(high.isinf(), c * _GROWTH, (low + high) / 2)
    return best, least.isfinite()


def _minimised(
    attacked: Attacked,
    x: Tensor,
    targets: Tensor,
    c: Tensor,
    settings: Settings,
    density: Density | None,
) -> tuple[Tensor, Tensor]:
    """For one c an image: the nearest hit on the way and its squared distance, inf without one."""
    w = torch.atanh((2 * x - 1).clamp(-1 + _EDGE, 1 - _EDGE)).detach().requires_grad_()
    adam = torch.optim.Adam([w], lr=settings.rate)
    best, least = x.clone(), torch.full((len(x),), math.inf)
    for _ in range(settings.steps):
        at = (torch.tanh(w) + 1) / 2
        logits, log_prob = attacked.look(at)
        distance = (at - x).flatten(1).square().sum(1)
        lead = margin(logits, targets)
        hit = (lead <= -min(settings.kappa, _ENOUGH)) & (distance < least)
        best = picked(hit, at.detach(), best)
        least = torch.where(hit, distance.detach(), least)
        loss = distance + c * lead.clamp_min(-settings.kappa)
        if settings.detection and density is not None and log_prob is not None:
            loss = loss + settings.detection * _detected(log_prob, density, x[0].numel())
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    return best, least


#: Margin that counts as a hit at most: an endless kappa asks for as much as it gets.
_ENOUGH = 1.0


def _detected(log_prob: Tensor, density: Density, dim: int) -> Tensor:
    away = (log_prob - density.middle).abs() / dim - density.tau
    return away.clamp_min(0).float()
