"""What is done to an image to make a stranger of it: exact in 8 bits, at the image's own size.

Every change takes uint8 pixels (C, H, W) in [0, 255] and a generator, which those without chance
leave alone, and gives the same. None of them knows what the image shows. Training's own
augmentation is in ``train.augment``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.image import UInt8Array

Change = Callable[[UInt8Array, np.random.Generator], UInt8Array]

#: Standard deviation of ``gaussian_noise`` in 8-bit grey levels, 13/255 of the range.
SIGMA = 13.0

#: Of the one order that ``permutation`` puts the pixels of all images in.
PERMUTATION_SEED = 0

#: Pixels that ``shift`` moves by.
SHIFT = 2


def unchanged(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """y = x, for images that are strangers as they are."""
    return pixels


def vertical_flip(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """Upside down: y[c, i, j] = x[c, H - 1 - i, j]."""
    return pixels[:, ::-1]


def rotation_90(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """A quarter turn against the clock: y[c, i, j] = x[c, j, W - 1 - i], of shape (C, W, H)."""
    return np.rot90(pixels, axes=(1, 2))


def gaussian_noise(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """y = clip(rint(x + 13 z), 0, 255), z standard normal for each pixel and channel."""
    noisy = pixels + SIGMA * random.standard_normal(pixels.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def mean_blur(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """The mean of 3 x 3 pixels, rounded: y = (sum + 4) // 9; the border is repeated outwards."""
    _, height, width = pixels.shape
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int64)
    windows = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    blurred: UInt8Array = ((np.sum(windows, axis=0) + 4) // 9).astype(np.uint8)
    return blurred


def contrast(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """Half the contrast about 0: y = rint(x / 2), halves to the even neighbour."""
    return np.rint(pixels / 2).astype(np.uint8)


def inversion(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """y = 255 - x."""
    return 255 - pixels


def permutation(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """The pixels in another order, the same for all channels and all images of one size."""
    channels, height, width = pixels.shape
    order = np.random.default_rng(PERMUTATION_SEED).permutation(height * width)
    return pixels.reshape(channels, -1)[:, order].reshape(pixels.shape)


def constant(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """One grey level, uniform on 0 to 255, all over the image; of ``pixels`` only the shape."""
    return np.full(pixels.shape, random.integers(256), dtype=np.uint8)


def uniform_noise(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """Uniform on 0 to 255 for each pixel and channel; of ``pixels`` only the shape."""
    return random.integers(256, size=pixels.shape, dtype=np.uint8)


def shift(pixels: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """Two pixels down, what leaves the image coming in at the top: y[c, i, j] = x[c, i - 2, j]."""
    return np.roll(pixels, SHIFT, axis=1)
