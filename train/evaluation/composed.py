"""Composed images: whether heatmaps say *where* a class is, held against what is known.

The left half of an image of one class beside the right half of an image of another. Both classes
are in the picture, each in its half, so the evidence for the one should lie left and for the other
right. Asked of a map without any knowledge, each is right by chance in a half of the images and
both in a quarter (``CHANCE``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from calibration.arrays import BoolArray, FloatArray, IntArray
from model.image import UInt8Array

#: Share of pairs in which a map that knows nothing is right about both.
CHANCE = 0.25


@dataclass(frozen=True, kw_only=True, eq=False)
class Composed:
    """N images uint8 (N, C, H, W) with their two classes (N,) each, never the same.

    Columns below W // 2 are those of an image of class ``left``, the others of one of ``right``.
    """

    pixels: UInt8Array
    left: IntArray
    right: IntArray

    def __len__(self) -> int:
        return len(self.left)


def compose(pixels: UInt8Array, labels: IntArray, count: int, seed: int) -> Composed:
    """``count`` pairs drawn of images (M, C, H, W), each pair of images of two classes.

    The left one is any of the images, the right one any of another class. Raises ``ValueError``
    where all are of one class.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("images of a single class: expected two at least, to compose")
    drawn = np.random.default_rng(seed)
    left = drawn.integers(len(labels), size=count)
    right = np.array([drawn.choice(np.flatnonzero(labels != labels[i])) for i in left], np.int64)
    middle = pixels.shape[3] // 2
    made = pixels[right]
    made[..., :middle] = pixels[left][..., :middle]
    return Composed(pixels=made, left=labels[left], right=labels[right])


def left_share(heatmaps: Tensor, width: int) -> FloatArray:
    """Share of the positive mass that lies left (N,), of maps (N, h, w) of images ``width`` wide.

    Left are columns below ``width`` // 2, as in ``compose``. A place of the map stands for the
    ``width`` / w columns under it, of which each has as much of its mass. NaN for a map without
    any positive place.
    """
    columns = heatmaps.double().clamp(min=0).sum(1).numpy()
    edges = np.linspace(0, width, columns.shape[1] + 1)
    inside = (width // 2 - edges[:-1]).clip(0, np.diff(edges)) / np.diff(edges)
    with np.errstate(invalid="ignore"):
        share: FloatArray = columns @ inside / columns.sum(1)
    return share


def on_their_sides(left: Tensor, right: Tensor, width: int) -> BoolArray:
    """Whether both maps are right (N,): of ``left`` (N, h, w), the maps of the classes in the left
    halves, more than half of the positive mass lies left, of ``right`` less than half."""
    of_left, of_right = left_share(left, width), left_share(right, width)
    found: BoolArray = (of_left > 0.5) & (of_right < 0.5)
    return found
