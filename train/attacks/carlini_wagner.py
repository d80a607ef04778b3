"""Carlini and Wagner's targeted l2 attack with a detection term.

Minimises, over x' within [0, 1] (Carlini and Wagner, S&P 2017; Mackowiak et al., CVPR 2021, Eqs. 11
and 12),

    |x' - x|^2 + c L_class^kappa(x') + d L_detect(x')
    L_class^kappa = max(max_{i != t} logit_i - logit_t, -kappa)        (kappa inf: no bound)

with c found for each image: it grows tenfold until it hits, then falls, or is halved in its
logarithm between what missed and what hit. Each begins at the best image so far, with steps of
Adam half as long as those of the one before, projected on [0, 1]: through a tanh, as in the paper,
a black pixel would hardly move. The paper does not give L_detect; here it is what ``Look`` says: of
the density (``looks_usual``) or of the gate itself (``looks_let_in``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.calibration import Calibration
from train.attacks.attacked import Attacked
from train.attacks.gate import SmoothGate
from train.attacks.losses import margin, picked

#: First weight of the class, and the factor until a hit and a miss are known.
_FIRST_C, _GROWTH = 10.0, 10.0
#: Share of reference densities nearer to their median than tau.
_USUAL = 0.95
#: Margin that counts as a hit at most: an endless kappa asks for as much as it gets.
_ENOUGH = 1.0
#: How far below its limit S has to be for an image to count as let in.
_BELOW = 0.02

#: Of images (B, C, H, W) in [0, 1]: logits (B, K), and L_detect (B,), 0 where nothing is found.
Look = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``kappa`` >= 0 in nats, ``detection`` the weight d; ``searches`` values of c with ``steps``
    steps of Adam each, of length ``rate`` for the first."""

    kappa: float
    detection: float
    searches: int
    steps: int
    rate: float


class Found(NamedTuple):
    """What one c, or all, came to: ``images``, and ``value`` (B,) to be the least, inf where there
    is no hit."""

    images: Tensor
    value: Tensor


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


def looks_anyhow(attacked: Attacked) -> Look:
    """Nothing detects."""

    def look(x: Tensor) -> tuple[Tensor, Tensor]:
        logits, _ = attacked.look(x)
        return logits, logits.new_zeros(len(x))

    return look


def looks_usual(gate: SmoothGate) -> Look:
    """L_detect = max(0, |log q(x') - m| / D - tau), m and tau the median and the largest usual
    distance per dimension of the reference's log densities."""
    dim = gate.classifier.config.dim
    density = Density.of(gate.calibration, dim)

    def look(x: Tensor) -> tuple[Tensor, Tensor]:
        logits, log_prob = gate.look(x)
        away = (log_prob - density.middle).abs() / dim - density.tau
        return logits, away.clamp_min(0).float()

    return look


def looks_let_in(gate: SmoothGate, limit: Tensor) -> Look:
    """L_detect = max(0, S - limit): of the gate as served, with the ``limit`` (K,) above which S
    is rejected for each class."""

    def look(x: Tensor) -> tuple[Tensor, Tensor]:
        judged = gate(x)
        above = judged.score - limit[judged.logits.argmax(1)] + _BELOW
        return judged.logits, above.clamp_min(0).float()

    return look


def carlini_wagner(look: Look, x: Tensor, targets: Tensor, settings: Settings) -> Found:
    """The images found that are classified as ``targets`` (B,) with the class margin that kappa
    asks for and are best beside that; where none was found, as they were.

    Best: least |x' - x|^2 + d L_detect, which is the value; without a bound on kappa, the minimum
    of the whole loss for the least c that hits, and c is the value.
    """
    c = torch.full((len(x),), _FIRST_C)
    low, high = torch.zeros(len(x)), torch.full((len(x),), math.inf)
    best = Found(x.clone(), torch.full((len(x),), math.inf))
    for search in range(settings.searches):
        rate = settings.rate / 2**search
        found = _minimised(look, x, best.images, targets, c, rate, settings)
        hit = found.value.isfinite()
        value = torch.where(hit, c, math.inf) if math.isinf(settings.kappa) else found.value
        best = _better(best, Found(found.images, value))
        high, low = torch.where(hit, c, high), torch.where(hit, low, c)
        c = torch.where(high.isinf(), c * _GROWTH, (low * high).sqrt())
        c = torch.where(low == 0, high / _GROWTH, c)
    return best


def _minimised(
    look: Look,
    x: Tensor,
    begin: Tensor,
    targets: Tensor,
    c: Tensor,
    rate: float,
    settings: Settings,
) -> Found:
    """For one c an image, from ``begin``: the hit on the way with the least loss; its value is that
    loss without what the class is worth where kappa bounds that."""
    at = begin.clone().requires_grad_()
    adam = torch.optim.Adam([at], lr=rate)
    best = Found(x.clone(), torch.full((len(x),), math.inf))
    for _ in range(settings.steps):
        logits, detected = look(at)
        distance = (at - x).flatten(1).square().sum(1)
        lead = margin(logits, targets)
        hit = lead <= -min(settings.kappa, _ENOUGH)
        loss = distance + c * lead.clamp_min(-settings.kappa) + settings.detection * detected
        value = loss + (0 if math.isinf(settings.kappa) else c * settings.kappa)
        best = _better(best, Found(at.detach().clone(), torch.where(hit, value.detach(), math.inf)))
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
        with torch.no_grad():
            at.clamp_(0, 1)
    return best


def _better(one: Found, other: Found) -> Found:
    less = other.value < one.value
    return Found(picked(less, other.images, one.images), torch.minimum(one.value, other.value))
