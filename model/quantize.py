"""8-bit pixels to the model's lattice of grey levels, and the lattice to [0, 1].

A level k of L occupies the bin [k/L, (k+1)/L). Training draws a point of the bin (uniform
dequantisation); serving takes its centre, so that an answer is deterministic. Nothing is clamped:
a clamped pixel would be an atom at which the density is unbounded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_levels(images: Tensor, levels: int) -> Tensor:
    """uint8 (B, C, H, W) in [0, 255] to int64 levels in [0, levels - 1], the nearest one."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images of {images.dtype}: expected torch.uint8")
    return (images.long() * (levels - 1) + 127) // 255


def bin_centres(images: Tensor, levels: int) -> Tensor:
    """uint8 images to float32 pixels in (0, 1) at the centre of their bins: (k + 1/2) / L."""
    return (to_levels(images, levels).float() + 0.5) / levels


def dequantize(images: Tensor, levels: int, noise: Tensor) -> Tensor:
    """uint8 images and noise U[0, 1) of their shape to float32 pixels: (k + noise) / L."""
    return (to_levels(images, levels).float() + noise) / levels


def as_input(x: Tensor, levels: int) -> npt.NDArray[np.uint8]:
    """Pixels (..., H, W) in [0, 1], as a flow inverts to them, as the 8-bit ones of their levels.

    The centre of a bin comes back as its level, unlike by rounding. What lies outside is clamped:
    the model may put mass where no image is.
    """
    level = (x.double().nan_to_num(0) * levels).floor().clamp(0, levels - 1)
    pixels: npt.NDArray[np.uint8] = (
        (level * 255 / (levels - 1)).round().to(torch.uint8).cpu().numpy()
    )
    return pixels
