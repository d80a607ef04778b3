"""Weather: snow, frost, fog, brightness (Hendrycks and Dietterich, ICLR 2019).

Frost is drawn here by a fractal, not cut from photographs, so its figures are not to be compared
with published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.corruptions.draws import Draws
from train.corruptions.fractal import clouds
from train.corruptions.kernels import motion_blurred, zoomed

#: ITU-R 601 weights of red, green and blue.
_LUMA = (0.299, 0.587, 0.114)
#: Decay of the fractal that ice crystals are drawn from, how sharp their ridges are, the least
#: brightness of ice, and its colour.
_CRYSTALS, _SHARPNESS, _ICE, _TINT = 1.6, 2.0, 0.2, (0.85, 0.93, 1.0)


def snow(
    x: Tensor,
    draws: Draws,
    mean: float,
    deviation: float,
    zoom: float,
    least: float,
    radius: float,
    sigma: float,
    kept: float,
) -> Tensor:
    """Flakes, images (B, C, H, W) in [0, 1]: the tops above ``least`` of zoomed noise, blurred as
    they fall, twice; the scene itself is whitened but for a share ``kept``."""
    height, width = x.shape[2:]
    flakes = zoomed(mean + deviation * draws.normal(1, height, width), zoom)
    flakes = torch.where(flakes < least, 0.0, flakes).clamp(0, 1)
    flakes = motion_blurred(flakes, radius, sigma, draws.uniform(-135, -45))
    whitened = kept * x + (1 - kept) * torch.maximum(x, 1.5 * _grey(x) + 0.5)
    return whitened + flakes + flakes.flip(2, 3)


def frost(x: Tensor, draws: Draws, seen: float, ice: float) -> Tensor:
    """A share ``seen`` of the scene under a share ``ice`` of ice crystals."""
    height, width = x.shape[2:]
    ridges = 1 - (2 * clouds(draws, height, width, _CRYSTALS) - 1).abs()
    crystals = _ICE + (1 - _ICE) * ridges**_SHARPNESS
    tint = torch.tensor(_TINT if x.shape[1] == 3 else [1.0])[:, None, None]
    return seen * x + ice * crystals * tint


def fog(x: Tensor, draws: Draws, density: float, decay: float) -> Tensor:
    """Clouds added to the scene, which fades so that its brightest pixel stays."""
    brightest = x.amax((1, 2, 3), keepdim=True)
    x = x + density * clouds(draws, x.shape[2], x.shape[3], decay)
    return x * brightest / (brightest + density)


def brightness(x: Tensor, draws: Draws, more: float) -> Tensor:
    """The value of HSV is ``more``, hue and saturation stay."""
    value = x.amax(1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.clamp_min(1e-12), brighter)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    return (x * torch.tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
