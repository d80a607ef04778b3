"""Clouds: a fractal height map by midpoint displacement, for fog and frost.

Diamond-square (Fournier, Fussell and Carpenter, CACM 1982) on a torus: the middle of each square,
then of each edge, is the mean of its four neighbours and noise, whose range falls by ``decay`` from
one scale to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.corruptions.draws import Draws


def clouds(draws: Draws, height: int, width: int, decay: float) -> Tensor:
    """(B, 1, height, width) in [0, 1], each image's least value 0 and largest 1 over its torus."""
    size = 1 << max(1, (max(height, width) - 1).bit_length())
    found = torch.zeros(draws.count, size, size)
    step, reach = size, 1.0
    while step >= 2:
        half = step // 2
        corners = found[:, ::step, ::step]
        right, down = corners.roll(-1, 2), corners.roll(-1, 1)
        noise = reach * draws.uniform(-1, 1, 3, *corners.shape[1:])
        middle = (corners + right + down + right.roll(-1, 1)) / 4 + noise[:, 0]
        found[:, half::step, half::step] = middle
        found[:, ::step, half::step] = (corners + right + middle + middle.roll(1, 1)) / 4 + noise[
            :, 1
        ]
        found[:, half::step, ::step] = (corners + down + middle + middle.roll(1, 2)) / 4 + noise[
            :, 2
        ]
        step, reach = half, reach / decay
    low, high = found.amin((1, 2), keepdim=True), found.amax((1, 2), keepdim=True)
    return ((found - low) / (high - low).clamp_min(1e-12))[:, None, :height, :width]
