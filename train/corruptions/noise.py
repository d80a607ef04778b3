"""Noise: Gaussian, shot and impulse (Hendrycks and Dietterich, ICLR 2019)."""

from __future__ import annotations

from torch import Tensor

from train.corruptions.draws import Draws


def gaussian_noise(x: Tensor, draws: Draws, deviation: float) -> Tensor:
    """Images (B, C, H, W) in [0, 1] with noise of that standard deviation; not clamped."""
    return x + deviation * draws.normal(*x.shape[1:])


def shot_noise(x: Tensor, draws: Draws, photons: float) -> Tensor:
    """Poisson counts with that many photons a white pixel: fewer are noisier."""
    return draws.poisson(x * photons) / photons


def impulse_noise(x: Tensor, draws: Draws, amount: float) -> Tensor:
    """A share ``amount`` of the values is black or white, half each."""
    u = draws.uniform(0, 1, *x.shape[1:])
    x = x.masked_fill(u < amount / 2, 0.0)
    return x.masked_fill(u > 1 - amount / 2, 1.0)
