"""Digital: contrast, elastic, pixelate, JPEG (Hendrycks and Dietterich, ICLR 2019)."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as nnf

from train.corruptions.draws import Draws
from train.corruptions.kernels import blurred, places, sampled


def contrast(x: Tensor, draws: Draws, kept: float) -> Tensor:
    """A share ``kept`` of each channel's distance from its mean; images (B, C, H, W) in [0, 1]."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + kept * (x - mean)


def elastic_transform(
    x: Tensor, draws: Draws, amount: float, smoothness: float, shift: float
) -> Tensor:
    """Three points of a triangle move by up to ``shift`` pixels, and with them the plane; then each
    pixel by ``amount`` of noise that is smooth over ``smoothness`` pixels."""
    height, width = x.shape[2:]
    rows, columns = places(x)
    noise = draws.uniform(-1, 1, 2, height, width)
    moves = amount * blurred(noise, smoothness, truncate=3)
    at = torch.stack([columns + moves[:, 0], rows + moves[:, 1], torch.ones_like(moves[:, 0])])
    back = _affine(draws, height, width, shift)
    columns, rows = torch.einsum("bij,jbhw->ibhw", back, at)
    return sampled(x, rows, columns)


def pixelate(x: Tensor, draws: Draws, kept: float) -> Tensor:
    """A share ``kept`` of the pixels on either side, each the mean of what it covers."""
    height, width = (max(1, int(size * kept)) for size in x.shape[2:])
    small = _covering(x.shape[2], height) @ x @ _covering(x.shape[3], width).T
    return nnf.interpolate(small, x.shape[2:], mode="nearest-exact")


def jpeg_compression(x: Tensor, draws: Draws, quality: float) -> Tensor:
    """As a JPEG of that quality tells it."""
    pixels = (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return torch.stack([_by_jpeg(image, round(quality)) for image in pixels])


def _covering(size: int, fewer: int) -> Tensor:
    """(fewer, size): which share of each old pixel a new one is made of; rows sum to 1."""
    edges = torch.arange(fewer + 1) * (size / fewer)
    old = torch.arange(size)
    over = torch.minimum(edges[1:, None], old + 1) - torch.maximum(edges[:-1, None], old)
    covering: Tensor = over.clamp_min(0) * (fewer / size)
    return covering


def _by_jpeg(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], quality: int) -> Tensor:
    buffer = io.BytesIO()
    grey = image.shape[2] == 1
    Image.fromarray(image[..., 0] if grey else image).save(buffer, "JPEG", quality=quality)
    found = np.atleast_3d(np.asarray(Image.open(buffer)))
    return torch.from_numpy(found.copy()).permute(2, 0, 1).float() / 255


def _affine(draws: Draws, height: int, width: int, shift: float) -> Tensor:
    """From places of the result to those of the image, (B, 2, 3) on (column, row, 1)."""
    y, x, side = height // 2, width // 2, min(height, width) // 3
    points = torch.tensor([[x + side, y + side], [x + side, y - side], [x - side, y - side]])
    moved = points + draws.uniform(-shift, shift, 3, 2)
    ones = torch.ones(draws.count, 3, 1)
    source = torch.cat([points.expand(draws.count, -1, -1), ones], dim=2)
    target = torch.cat([moved, ones], dim=2)
    if side == 0:  # a triangle of no size says nothing of the plane around it
        return torch.eye(2, 3).expand(draws.count, -1, -1)
    back: Tensor = torch.linalg.solve(target, source)[..., :2].transpose(1, 2)
    return back
