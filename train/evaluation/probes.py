"""Probes of what a classifier goes by: images that keep the shape and lose the texture, or turned.

- ``silhouettes``: the object white on black, by Otsu's threshold of its own grey levels (Otsu,
  IEEE Trans. SMC 1979); shape alone
- ``shuffled``: a grid of patches in another order; texture and parts without the whole
- ``exchanged``: the phases of one image's Fourier transform with the amplitudes of another's:
  phases carry shape and place, amplitudes texture (Oppenheim and Lim, Proc. IEEE 1981); where the
  classes differ a prediction shows which of the two a classifier goes by

after Geirhos et al., "ImageNet-trained CNNs are biased towards texture", ICLR 2019, whose own
images are photographs with styles of paintings; ours are made from any labelled set. uint8 in, and
out.
"""

from __future__ import annotations

import numpy as np

from calibration.arrays import IntArray
from model.image import UInt8Array


def silhouettes(images: UInt8Array) -> UInt8Array:
    """Of images (B, C, H, W): 255 where the grey level is above the image's own threshold, or below
    where most of the border is above it, since what reaches the border is mostly background."""
    grey = np.floor(images.astype(np.float64).mean(axis=1))  # whole, as thresholds are
    masks = np.stack([_object(image) for image in grey])
    found: UInt8Array = np.where(masks[:, None], 255, 0).astype(np.uint8)
    return np.repeat(found, images.shape[1], axis=1)


def shuffled(images: UInt8Array, grid: int, seed: int) -> UInt8Array:
    """Images (B, C, H, W) cut into ``grid`` x ``grid`` patches, each image's in an order of its
    own; rows and columns left over at the lower right stay. Raises ``ValueError`` for a grid finer
    than the image."""
    height, width = (side // grid for side in images.shape[2:])
    if min(height, width) < 1:
        raise ValueError(f"grid {grid}: expected at most {min(images.shape[2:])}, the shorter side")
    found, random = images.copy(), np.random.default_rng(seed)
    for image, source in zip(found, images, strict=True):
        for place, other in enumerate(random.permutation(grid * grid)):
            (i, j), (k, m) = divmod(place, grid), divmod(int(other), grid)
            image[:, i * height : (i + 1) * height, j * width : (j + 1) * width] = source[
                :, k * height : (k + 1) * height, m * width : (m + 1) * width
            ]
    return found


def exchanged(shapes: UInt8Array, textures: UInt8Array) -> UInt8Array:
    """The phases of ``shapes`` with the amplitudes of ``textures``, (B, C, H, W) each."""
    phases = np.angle(np.fft.fft2(shapes.astype(np.float64)))
    amplitudes = np.abs(np.fft.fft2(textures.astype(np.float64)))
    mixed = np.fft.ifft2(amplitudes * np.exp(1j * phases)).real
    pixels: UInt8Array = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return pixels


def partners(labels: IntArray, seed: int) -> IntArray:
    """For each of labels (N,) the index of an image of another class, drawn; -1 where all are of
    one class."""
    random = np.random.default_rng(seed)
    found = np.full(len(labels), -1, dtype=np.int64)
    for label in np.unique(labels):
        others = np.flatnonzero(labels != label)
        own = labels == label
        if len(others):
            found[own] = random.choice(others, own.sum())
    return found


def _object(
    grey: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    above = grey > _threshold(grey)
    border = np.concatenate([above[0], above[-1], above[:, 0], above[:, -1]])
    return ~above if border.mean() > 1 / 2 else above


def _threshold(grey: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """The level that leaves the least variance within the two sides."""
    counts = np.bincount(grey.astype(np.int64).ravel(), minlength=256).astype(np.float64)
    levels = np.arange(256)
    below, sums = counts.cumsum(), (counts * levels).cumsum()
    over = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * over * (sums / below - (sums[-1] - sums) / over) ** 2
    return float(np.nanargmax(np.where(np.isfinite(apart), apart, -1.0)))
