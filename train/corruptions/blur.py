"""Blur: out of focus, frosted glass, motion, zoom (Hendrycks and Dietterich, ICLR 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from train.corruptions.draws import Draws
from train.corruptions.kernels import blurred, convolved, gaussian, motion_blurred, zoomed


def defocus_blur(x: Tensor, draws: Draws, radius: float, softness: float) -> Tensor:
    """Images (B, C, H, W) by a disc of ``radius`` pixels whose edge a Gaussian softens."""
    return convolved(x, _disc(radius, softness))


def glass_blur(x: Tensor, draws: Draws, sigma: float, reach: float, rounds: float) -> Tensor:
    """Pixels change places with others up to ``reach`` away, ``rounds`` times, between two blurs.

    From the last row and column to the first, one after the other as published: a pixel may so
    travel far. All images go through the same places at once.
    """
    x = blurred(x, sigma).permute(0, 2, 3, 1).contiguous()
    far, batch = max(1, round(reach)), torch.arange(len(x))
    height, width = x.shape[1:3]
    for _ in range(max(1, round(rounds))):
        moves = draws.whole(-far, far, height, width, 2)
        for row in range(height - 1 - far, far, -1):
            for column in range(width - 1 - far, far, -1):
                r, c = row + moves[:, row, column, 0], column + moves[:, row, column, 1]
                here = x[:, row, column].clone()
                x[:, row, column] = x[batch, r, c]
                x[batch, r, c] = here
    return blurred(x.permute(0, 3, 1, 2), sigma)


def motion_blur(x: Tensor, draws: Draws, radius: float, sigma: float) -> Tensor:
    """Along an angle within 45 degrees of the horizontal."""
    return motion_blurred(x, radius, sigma, draws.uniform(-45, 45))


def zoom_blur(x: Tensor, draws: Draws, most: float, step: float) -> Tensor:
    """The mean of the image and of its zooms by 1, 1 + step, ... up to ``most``."""
    factors = 1 + step * torch.arange(max(1, round((most - 1) / step) + 1))
    zooms = sum(zoomed(x, factor) for factor in factors.tolist())
    return (x + zooms) / (len(factors) + 1)


def _disc(radius: float, softness: float) -> Tensor:
    near = math.floor(radius)
    around = 1 if radius <= 8 else 2
    steps = torch.arange(-near - around, near + around + 1)
    disc = (steps[:, None].square() + steps.square() <= radius**2).float()
    edge = gaussian(softness, around)
    kernel = edge[:, None] * edge
    soft = torch.nn.functional.conv2d(disc[None, None], kernel[None, None], padding=around)[0, 0]
    return soft / soft.sum()
