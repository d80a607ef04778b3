"""Augmentation of uint8 batches: what a class is known to survive, seeded.

A bundle must not be judged on strangers that its own training augmentation produces; which one was
used stands in the run's settings.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf


def augment(images: Tensor, generator: torch.Generator, *, flip: bool, shift: int) -> Tensor:
    """Images (B, C, H, W) of any type, each changed on its own.

    ``flip``: mirrored left to right with probability one half. ``shift``: moved by up to that many
    pixels both ways, the border repeated into the gap. Drawn on the generator's device.
    """
    if flip:
        chosen = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
        chosen = chosen.to(images.device)[:, None, None, None]
        images = torch.where(chosen, images.flip(3), images)
    return _shifted(images, generator, shift) if shift else images


def _shifted(images: Tensor, generator: torch.Generator, shift: int) -> Tensor:
    count, channels, height, width = images.shape
    # replicate padding knows no integers; 8-bit values are exact in float32
    padded = nnf.pad(images.float(), (shift,) * 4, mode="replicate").to(images.dtype)
    offsets = torch.randint(
        0, 2 * shift + 1, (2, count), generator=generator, device=generator.device
    ).to(images.device)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
