"""Distorted copies of images: what a gate is shown of strangers before it meets any.

Six kinds, each drawn at random from weak to strong, for ``calibration.outlier_exposure``. They are
meant to be broad and are no copies of the corruptions that a gate is judged on
(``train.corruptions``), though both have blur and noise in them: how a gate does on a kind that it
was not shown is in ``train/LOG.md``.

- ``tone``: gamma, gain and offset, clipped
- ``filter``: a random kernel of 3 or 5 pixels, to smooth or to sharpen
- ``noise``: Gaussian with a spectrum f^a, a in [-2, 2], of all channels together or each
- ``blend``: with up to half of the image before it
- ``warp``: a random affine map and a smooth displacement
- ``resample``: down to 40% to 95% of the size and up again, by random interpolations
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nnf

from model.image import UInt8Array
from train.corruptions.draws import Draws

#: Images that are distorted together at most; in equal parts, so that none of two or more is alone.
BATCH = 250
#: Least and largest standard deviation of noise, pixels in [0, 1].
WEAKEST, STRONGEST = 0.02, 0.24
#: Pixels a side of a random kernel; the outer ones are left out of half of them.
KERNEL = 5
#: Least and largest share of the size that images are brought down to.
SMALLEST, LARGEST = 0.4, 0.95


def tone(x: Tensor, draws: Draws) -> Tensor:
    """Another gamma, gain and offset."""
    gamma, gain, offset = draws.normal(3, 1, 1, 1).unbind(1)
    found: Tensor = (0.35 * gain).exp() * (x ** (0.4 * gamma).exp() - 0.5) + 0.5 + 0.15 * offset
    return found


def filtered(x: Tensor, draws: Draws) -> Tensor:
    """Smoothed or sharpened."""
    count, channels, height, width = x.shape
    kernel = draws.normal(1, KERNEL, KERNEL).abs() ** (1 + draws.uniform(0, 3, 1, 1, 1))
    inner = torch.zeros(KERNEL, KERNEL)
    inner[1:-1, 1:-1] = 1
    kernel = torch.where(draws.uniform(0, 1, 1, 1, 1) < 0.5, kernel * inner, kernel)
    kernel = kernel / kernel.sum(dim=(2, 3), keepdim=True)
    same = torch.zeros(KERNEL, KERNEL)
    same[KERNEL // 2, KERNEL // 2] = 1
    share = draws.uniform(-0.4, 1.2, 1, 1, 1)
    kernel = (share * kernel + (1 - share) * same).expand(-1, channels, -1, -1)
    mode = "reflect" if min(height, width) > KERNEL // 2 else "replicate"
    padded = nnf.pad(x, (KERNEL // 2,) * 4, mode=mode).flatten(0, 1)[None]
    weights = kernel.reshape(-1, 1, KERNEL, KERNEL)
    found = nnf.conv2d(padded, weights, groups=count * channels)
    return found.reshape(x.shape)


def noisy(x: Tensor, draws: Draws) -> Tensor:
    """With coloured noise."""
    height, width = x.shape[2:]
    white = draws.normal(*x.shape[1:])
    white = torch.where(draws.uniform(0, 1, 1, 1, 1) < 0.5, white[:, :1], white)
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    frequency = (rows.square() + columns.square()).sqrt().clamp_min(1 / max(height, width))
    spectrum = torch.fft.rfft2(white) * frequency ** draws.uniform(-2, 2, 1, 1, 1)
    noise = torch.fft.irfft2(spectrum, s=(height, width))
    noise = noise / noise.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
    strength = WEAKEST * (STRONGEST / WEAKEST) ** draws.uniform(0, 1, 1, 1, 1)
    found: Tensor = x + strength * noise
    return found


def blended(x: Tensor, draws: Draws) -> Tensor:
    """With a part of another image."""
    share = draws.uniform(0, 0.5, 1, 1, 1)
    return (1 - share) * x + share * x.roll(1, 0)


def warped(x: Tensor, draws: Draws) -> Tensor:
    """Moved about."""
    affine = torch.eye(2, 3) + 0.08 * draws.normal(2, 3)
    grid = nnf.affine_grid(affine, list(x.shape), align_corners=False)
    coarse = 0.06 * draws.normal(2, 4, 4)
    smooth = nnf.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=False)
    at = grid + smooth.permute(0, 2, 3, 1)
    return nnf.grid_sample(x, at, padding_mode="reflection", align_corners=False)


def resampled(x: Tensor, draws: Draws) -> Tensor:
    """Down and up again."""
    size = x.shape[2:]
    shares = draws.uniform(SMALLEST, LARGEST, 1).tolist()
    down, up = draws.whole(0, len(_WAYS), 2).unbind(1)
    found = []
    for image, (share,), there, back in zip(x, shares, down.tolist(), up.tolist(), strict=True):
        small = [max(1, round(share * side)) for side in size]
        low = _WAYS[there](image[None], small)
        found.append(_WAYS[back](low, list(size)))
    return torch.cat(found)


#: The kinds by name, in the order in which a row's copies are made.
DISTORTIONS: Mapping[str, Callable[[Tensor, Draws], Tensor]] = {
    "tone": tone,
    "filter": filtered,
    "noise": noisy,
    "blend": blended,
    "warp": warped,
    "resample": resampled,
}


def distorted(images: UInt8Array, name: str, *, seed: int) -> UInt8Array:
    """Copies of uint8 images (N, C, H, W), each by a ``name`` of ``DISTORTIONS`` drawn for it.

    The same seed and images, the same copies. Raises ``KeyError`` for another name.
    """
    distort = DISTORTIONS[name]
    drawn = len(DISTORTIONS) * seed + list(DISTORTIONS).index(name)
    parts = []
    for rows in np.array_split(np.arange(len(images)), math.ceil(len(images) / BATCH) or 1):
        x = torch.from_numpy(images[rows]).float() / 255
        moved = distort(x, Draws(seed=drawn, first=int(rows[0]), count=len(x))) if len(x) else x
        parts.append((255 * moved.clamp(0, 1)).round().byte().numpy())
    return np.concatenate(parts)


def _nearest(x: Tensor, size: list[int]) -> Tensor:
    return nnf.interpolate(x, size=size, mode="nearest")


def _area(x: Tensor, size: list[int]) -> Tensor:
    return nnf.interpolate(x, size=size, mode="area")


def _bilinear(x: Tensor, size: list[int]) -> Tensor:
    return nnf.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _bicubic(x: Tensor, size: list[int]) -> Tensor:
    return nnf.interpolate(x, size=size, mode="bicubic", align_corners=False)


_WAYS = (_nearest, _area, _bilinear, _bicubic)
