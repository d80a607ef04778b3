"""Kernels and sampling that several corruptions share; all on images (B, C, H, W)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as nnf


def gaussian(sigma: float, radius: int) -> Tensor:
    """(2 radius + 1,), sums to 1; a single 1 where sigma is 0."""
    steps = torch.arange(-radius, radius + 1).float()
    if sigma <= 0:
        return (steps == 0).float()
    weights = torch.exp(-0.5 * (steps / sigma).square())
    return weights / weights.sum()


def blurred(x: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """By a Gaussian, which ends ``truncate`` standard deviations out; edges are reflected."""
    radius = math.ceil(truncate * sigma)
    if radius == 0:
        return x
    kernel = gaussian(sigma, radius)
    rows = _convolved(_padded(x, 0, radius), kernel[None])
    return _convolved(_padded(rows, radius, 0), kernel[:, None])


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """By one kernel (odd, odd); edges are reflected."""
    height, width = kernel.shape
    return _convolved(_padded(x, height // 2, width // 2), kernel)


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    batch, channels = x.shape[:2]
    flat = x.reshape(batch * channels, 1, *x.shape[2:])
    found = nnf.conv2d(flat, kernel[None, None].to(x))
    return found.reshape(batch, channels, *found.shape[2:])


def _padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """Reflected at the edges, as often as it takes: a kernel may be larger than its image."""
    return x[:, :, _mirrored(x.shape[2], rows)][:, :, :, _mirrored(x.shape[3], columns)]


def _mirrored(size: int, more: int) -> Tensor:
    """Indices of a row and of ``more`` on both sides, going to and fro."""
    period = max(2 * (size - 1), 1)
    index = torch.arange(-more, size + more).remainder(period)
    return torch.where(index >= size, period - index, index)


def motion_blurred(x: Tensor, radius: float, sigma: float, angles: Tensor) -> Tensor:
    """Each image along its own angle (B,), degrees: half a Gaussian from each pixel on.

    As ImageMagick's motion blur: 2 ``radius`` + 1 steps, each to the nearest pixel; beyond the edge
    lies the edge.
    """
    steps = torch.arange(2 * math.ceil(radius) + 1)
    weights = torch.exp(-0.5 * (steps / sigma).square())
    weights = weights / weights.sum()
    turned = torch.deg2rad(angles)[:, None]
    down, right = ((steps * f(turned)).round().long() for f in (torch.sin, torch.cos))
    batch, _, height, width = x.shape
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    image = torch.arange(batch)[:, None, None]
    last = x.permute(0, 2, 3, 1)
    total = torch.zeros_like(last)
    for i, weight in enumerate(weights.tolist()):
        if weight < 1e-6:
            break
        r = (rows + down[:, i, None, None]).clamp(0, height - 1)
        c = (columns + right[:, i, None, None]).clamp(0, width - 1)
        total += weight * last[image, r, c]
    return total.permute(0, 3, 1, 2)


def sampled(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinearly at places (B, H, W) in pixels; edges are reflected."""
    height, width = x.shape[2:]
    grid = torch.stack(
        [2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1
    )
    return nnf.grid_sample(x, grid, "bilinear", "reflection", align_corners=True)


def places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each pixel, (1, H, W) each."""
    rows = torch.arange(x.shape[2]).float()[:, None].expand(x.shape[2:])
    columns = torch.arange(x.shape[3]).float().expand(x.shape[2:])
    return rows[None], columns[None]


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle, enlarged to the size of the image."""
    rows, columns = places(x)
    middle = (x.shape[2] - 1) / 2, (x.shape[3] - 1) / 2
    at = [
        (m + (p - m) / factor).expand(len(x), -1, -1)
        for p, m in zip((rows, columns), middle, strict=True)
    ]
    return sampled(x, at[0], at[1])
