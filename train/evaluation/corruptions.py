"""The fifteen corruptions of ImageNet-C at five severities, for images of any size.

What each does is in ``train.corruptions``, how strongly in ``train.corruptions.parameters``. On
images of 32 pixels they are to be called corruptions-32, not CIFAR-10-C: they are made anew from
the paper and its parameters, frost is drawn, and random numbers are others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from model.image import UInt8Array
from train.corruptions import blur, digital, noise, weather
from train.corruptions.draws import Draws
from train.corruptions.parameters import SEVERITIES, parameters

#: By name; the groups are those of the paper.
CORRUPTIONS: Mapping[str, Callable[..., Tensor]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}


@torch.no_grad()
def corrupt(
    images: UInt8Array, name: str, severity: int, *, seed: int = 0, first: int = 0
) -> UInt8Array:
    """uint8 images (B, C, H, W) with 1 or 3 channels to corrupted ones of the same kind.

    ``first`` is the number of the first image in its set: an image's corruption depends on its
    number and the seed alone. Raises ``ValueError`` for a name or severity that there is not.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"corruption {name!r}: expected one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity}: expected 1 to {SEVERITIES[-1]}")
    draws = Draws(seed, first, len(images))
    x = torch.from_numpy(images).float() / 255
    numbers = parameters(name, severity, min(images.shape[2:]))
    found = CORRUPTIONS[name](x, draws, *numbers).clamp(0, 1)
    pixels: UInt8Array = (found * 255).round().byte().numpy()
    return pixels
