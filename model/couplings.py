"""Affine couplings: one part of the channels is scaled and shifted by a network of the other.

The network may run in bfloat16 under autocast; its answer is brought back to the precision of the
flow before anything is added up, so that log-determinants keep it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from model.transforms import Retraced, Transform, Transformed


class Conditioner(nn.Module):
    """Log-scale and shift of the active channels as a function of the passive ones.

    s = clamp tanh(raw / clamp) with (raw, t) = subnet(x1), so |s| < clamp keeps the inverse well
    conditioned in float32. ``subnet`` gives twice as many channels as are active.
    """

    def __init__(self, subnet: nn.Module, clamp: float) -> None:
        super().__init__()
        self.subnet = subnet
        self.clamp = clamp

    def forward(self, passive: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.subnet(passive.contiguous(memory_format=torch.channels_last))
        raw, shift = hidden.to(passive.dtype).contiguous().chunk(2, dim=1)
        return self.clamp * torch.tanh(raw / self.clamp), shift


class AffineCoupling(Transform):
    """One-sided affine coupling on channels (Dinh et al., 2017).

    x = (x1, x2) along channels; x1 passes, x2' = x2 exp(s) + t with (s, t) of x1; ladj = sum of s.
    ``subnet`` maps ``channels // 2`` channels to 2 (channels - channels // 2).
    """

    learns_volume = True

    def __init__(self, channels: int, subnet: nn.Module, clamp: float) -> None:
        super().__init__()
        self.passive = channels // 2
        self.conditioner = Conditioner(subnet, clamp)

    def forward(self, x: Tensor) -> Transformed:
        z, log_scale = self._coupled(x)
        return z, _total(log_scale)

    def by_place(self, x: Tensor) -> Transformed:
        z, log_scale = self._coupled(x)
        return z, log_scale.double().sum(1)

    def _coupled(self, x: Tensor) -> Transformed:
        x1, x2 = x[:, : self.passive], x[:, self.passive :]
        log_scale, shift = self.conditioner(x1)
        return torch.cat([x1, _affine(x2, log_scale, shift)], dim=1), log_scale

    def inverse(self, z: Tensor) -> Transformed:
        z1, z2 = z[:, : self.passive], z[:, self.passive :]
        log_scale, shift = self.conditioner(z1)
        return torch.cat([z1, (z2 - shift) * (-log_scale).exp()], dim=1), -_total(log_scale)

    def retrace(self, z: Tensor) -> Retraced:
        # both directions ask the network the same question, so once is enough
        x1, z2 = z[:, : self.passive].detach().requires_grad_(), z[:, self.passive :]
        log_scale, shift = self.conditioner(x1)
        with torch.no_grad():
            x2 = (z2 - shift) * (-log_scale).exp()
        x2.requires_grad_()
        again = torch.cat([x1, _affine(x2, log_scale, shift)], dim=1)
        return Retraced((x1, x2), again, _total(log_scale))


class DownsamplingCoupling(Transform):
    """Two-sided affine coupling that halves height and width: (B, C, H, W) to (B, 4C, H/2, W/2).

    x = (x1, x2) along channels, both brought to the low resolution by space-to-depth. The active
    half is first transformed by ``down``, a network with stride 2 that sees x1 at the *high*
    resolution, then x1 by ``low``, a network of the result: (Jacobsen et al., 2018, for the idea;
    Mackowiak et al., CVPR 2021, Table 1). With p = C // 2 passive and a = C - p active channels,
    ``down`` maps p channels to 8a and ``low`` 4a channels to 8p.
    """

    learns_volume = True

    def __init__(self, channels: int, down: nn.Module, low: nn.Module, clamp: float) -> None:
        super().__init__()
        self.passive = channels // 2
        self.down = Conditioner(down, clamp)
        self.low = Conditioner(low, clamp)

    def forward(self, x: Tensor) -> Transformed:
        z, scale1, scale2 = self._coupled(x)
        return z, _total(scale1) + _total(scale2)

    def by_place(self, x: Tensor) -> Transformed:
        z, scale1, scale2 = self._coupled(x)
        return z, scale1.double().sum(1) + scale2.double().sum(1)

    def _coupled(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x1, x2 = x[:, : self.passive], x[:, self.passive :]
        scale2, shift2 = self.down(x1)
        z2 = _affine(nnf.pixel_unshuffle(x2, 2), scale2, shift2)
        scale1, shift1 = self.low(z2)
        z1 = _affine(nnf.pixel_unshuffle(x1, 2), scale1, shift1)
        return torch.cat([z1, z2], dim=1), scale1, scale2

    def inverse(self, z: Tensor) -> Transformed:
        z1, z2 = z[:, : 4 * self.passive], z[:, 4 * self.passive :]
        scale1, shift1 = self.low(z2)
        x1 = nnf.pixel_shuffle((z1 - shift1) * (-scale1).exp(), 2)
        scale2, shift2 = self.down(x1)
        x2 = nnf.pixel_shuffle((z2 - shift2) * (-scale2).exp(), 2)
        return torch.cat([x1, x2], dim=1), -_total(scale1) - _total(scale2)


def _affine(x: Tensor, log_scale: Tensor, shift: Tensor) -> Tensor:
    """x exp(s) + t, in one pass over memory."""
    return torch.addcmul(shift, x, log_scale.exp())


def _total(log_scale: Tensor) -> Tensor:
    return log_scale.flatten(1).sum(1)
