"""``model.input_statistics`` for attacks: the same numbers with a gradient towards every pixel.

At whole grey levels both agree. Between them the histogram behind the complexity is filled
linearly, each difference on the two whole ones beside it, so that even a count has a gradient.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model import input_statistics as exact

#: Values of a difference of 8-bit pixels, which wraps.
_VALUES = 256


def input_statistics(x: Tensor) -> dict[str, Tensor]:
    """Of pixels (B, C, H, W) in [0, 255], float64, by name, each (B,)."""
    flat = x.flatten(1)
    total = x.sum(1)
    found = {
        "complexity": _complexity(x),
        "min": flat.amin(1),
        "max": flat.amax(1),
        "variation_columns": _mean((x[..., 1:] - x[..., :-1]).abs()),
        "variation_rows": _mean((x[:, :, 1:] - x[:, :, :-1]).abs()),
        **_regions(total, x.shape[1]),
        **_bands(total / x.shape[1]),
    }
    if x.shape[1] > 1:
        grey = total[:, None] / x.shape[1]
        found["chroma"] = (_mean((x - grey).square()) + exact._FLOOR).log()
    return {exact.PREFIX + name: found[name] for name in exact._ORDER if name in found}


def _mean(values: Tensor) -> Tensor:
    flat = values.flatten(1)
    return flat.sum(1) / max(flat.shape[1], 1)


def _complexity(x: Tensor) -> Tensor:
    differences = (x[..., 1:] - x[..., :-1]).flatten(1)
    total = max(differences.shape[1], 1)
    below = differences.detach().floor()
    share = differences - below
    places = below.long().remainder(_VALUES)
    counts = x.new_zeros(len(x), _VALUES)
    counts = counts.scatter_add(1, places, 1 - share)
    counts = counts.scatter_add(1, (places + 1).remainder(_VALUES), share)
    # n log2 n falls without end towards 0 from above, where its gradient would be none
    terms = counts * counts.clamp_min(1e-3).log2()
    return float(np.log2(total)) - terms.sum(1) / total


def _regions(total: Tensor, channels: int) -> dict[str, Tensor]:
    masks, sizes = exact._masks(*total.shape[1:])
    means = total.flatten(1) @ torch.from_numpy(masks) / torch.from_numpy(sizes * channels)
    return dict(zip(("mean", "top", "bottom", "left", "right"), means.unbind(1), strict=True))


def _bands(grey: Tensor) -> dict[str, Tensor]:
    rows, columns, rings = (torch.from_numpy(a) for a in exact._frequencies(*grey.shape[1:]))
    energy = (rows @ grey @ columns.T).square().flatten(1)
    means = (energy @ rings + exact._FLOOR).log()
    return {f"band_{i + 1}": means[:, i] for i in range(means.shape[1])}
