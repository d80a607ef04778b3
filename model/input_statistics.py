"""Statistics of the pixels alone, for the gate: what a stranger shows without any network.

Computed on the CPU in whole numbers and float64, so that every machine finds the same up to the
steps that ``model.statistics`` rounds to. With x the
pixels in [0, 255], each statistic is (N,), named ``input_*``:

- ``input_complexity``: entropy of the differences of neighbours in a row, bits, 0 to 8: the length
  of a simple compressed file, per pixel, whatever version of a compressor is installed
- ``input_mean``, ``input_min``, ``input_max``: grey levels
- ``input_variation_columns``, ``input_variation_rows``: mean |difference| of neighbours within a
  row, and within a column; grey levels (total variation per pixel)
- ``input_band_1`` ... ``input_band_6``: natural logarithm of the mean square of the DCT (grey:
  mean over channels) in rings of growing frequency, without the constant
- ``input_top``, ``input_bottom``, ``input_left``, ``input_right``: mean of a border of two pixels
- ``input_chroma``, of colour images: logarithm of the mean square around each pixel's own grey
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from model.dct import dct_matrix
from model.image import UInt8Array

PREFIX = "input_"

#: Outer radii of the rings, as shares of the highest frequency along both axes.
RINGS = (0.06, 0.12, 0.2, 0.3, 0.45, 1.0)

#: Pixels that count as border.
BORDER = 2

#: Added to a mean square before its logarithm: far below what a single grey level makes.
_FLOOR = 1e-3

#: Names in their order; an image has those that it can have.
_ORDER = (
    *("complexity", "mean", "min", "max", "variation_columns", "variation_rows"),
    *("top", "bottom", "left", "right"),
    *(f"band_{i + 1}" for i in range(len(RINGS))),
    "chroma",
)

Float64Array = npt.NDArray[np.float64]


def input_statistics(images: UInt8Array) -> dict[str, Float64Array]:
    """The statistics of uint8 images (N, C, H, W) by name, each (N,)."""
    x = images.astype(np.float64)
    flat = images.reshape(len(x), -1)
    total = np.add.reduce(x, axis=1)
    found = {
        "complexity": _complexity(images),
        "min": flat.min(1).astype(np.float64),
        "max": flat.max(1).astype(np.float64),
        "variation_columns": _mean(np.abs(x[..., 1:] - x[..., :-1])),
        "variation_rows": _mean(np.abs(x[:, :, 1:] - x[:, :, :-1])),
        **_regions(total, x.shape[1]),
        **_bands(total / x.shape[1]),
    }
    if x.shape[1] > 1:
        grey = total[:, None] / x.shape[1]
        found["chroma"] = np.log(_mean((x - grey) ** 2) + _FLOOR)
    return {PREFIX + name: found[name] for name in _ORDER if name in found}


def _mean(values: Float64Array) -> Float64Array:
    """Mean of each image; 0 where there is nothing to take it of, as of a single row."""
    flat = values.reshape(len(values), -1)
    found: Float64Array = np.add.reduce(flat, axis=1) / max(flat.shape[1], 1)
    return found


def _complexity(images: UInt8Array) -> Float64Array:
    """Entropy in bits of the histogram of x[i + 1] - x[i], modulo 256, along rows."""
    differences = images[..., 1:] - images[..., :-1]  # uint8 wraps as it should
    places = differences.reshape(len(images), -1) + 256 * np.arange(len(images))[:, None]
    counts = np.bincount(places.ravel(), minlength=256 * len(images)).reshape(-1, 256)
    total = max(places.shape[1], 1)
    terms = np.add.reduce(_entropy_terms(total)[counts], axis=1)
    found: Float64Array = np.log2(total) - terms / total
    return found


@lru_cache(maxsize=8)
def _entropy_terms(total: int) -> Float64Array:
    """n log2 n for each count n = 0..total."""
    counts = np.arange(total + 1, dtype=np.float64)
    terms: Float64Array = counts * np.log2(np.maximum(counts, 1))
    return terms


def _regions(total: Float64Array, channels: int) -> dict[str, Float64Array]:
    """Means over the image and its borders, of sums over channels (N, H, W).

    Grey levels are whole numbers, so that their sums are exact, whatever order a product takes.
    """
    masks, sizes = _masks(*total.shape[1:])
    means = total.reshape(len(total), -1) @ masks / (sizes * channels)
    return dict(zip(("mean", "top", "bottom", "left", "right"), means.T, strict=True))


@lru_cache(maxsize=8)
def _masks(height: int, width: int) -> tuple[Float64Array, Float64Array]:
    """(H W, 5), which pixels are of each region, and how many are (5,)."""
    masks = np.zeros((height, width, 5))
    masks[..., 0] = 1
    masks[:BORDER, :, 1] = masks[-BORDER:, :, 2] = 1
    masks[:, :BORDER, 3] = masks[:, -BORDER:, 4] = 1
    flat = masks.reshape(-1, 5)
    return flat, flat.sum(axis=0)


def _bands(grey: Float64Array) -> dict[str, Float64Array]:
    rows, columns, rings = _frequencies(*grey.shape[1:])
    energy = ((rows @ grey @ columns.T) ** 2).reshape(len(grey), 1, -1)
    # image by image: a product over the batch sums in another order for another batch
    means = np.log((energy @ rings)[:, 0] + _FLOOR)
    return {f"band_{i + 1}": means[:, i] for i in range(means.shape[1])}


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Float64Array, Float64Array, Float64Array]:
    """The DCT-II matrices of both axes, and weights (H W, rings) that average over each ring."""
    u, v = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
    radius = np.hypot(u, v).ravel() / np.sqrt(2)
    ring = np.searchsorted(RINGS, radius, side="right")
    ring[0] = -1  # the constant
    members = [np.flatnonzero(ring == i) for i in range(len(RINGS))]
    weights = np.zeros((height * width, sum(len(index) > 0 for index in members)))
    for column, index in zip(weights.T, (m for m in members if len(m)), strict=True):
        column[index] = 1 / len(index)
    return dct_matrix(height), dct_matrix(width), weights
