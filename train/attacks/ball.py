"""What an attack may change: a ball about the image in one of two norms, within [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Ball:
    """Perturbations of at most ``eps``, pixels in [0, 1]: the largest change of a value (linf), or
    the root of the sum of squares over an image (l2)."""

    norm: Norm
    eps: float

    def project(self, x: Tensor, centre: Tensor) -> Tensor:
        """The nearest image within the ball about ``centre`` and [0, 1]; for l2 nearly so."""
        change = x - centre
        if self.norm == "linf":
            change = change.clamp(-self.eps, self.eps)
        else:
            change = change * (self.eps / lengths(change).clamp_min(1e-12)).clamp(max=1)
        return (centre + change).clamp(0, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """The steepest way of length 1 in this norm."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / lengths(gradient).clamp_min(1e-12)

    def somewhere(self, centre: Tensor, generator: torch.Generator) -> Tensor:
        """A random start."""
        noise = torch.randn(centre.shape, generator=generator, dtype=centre.dtype)
        if self.norm == "linf":
            return self.project(centre + self.eps * (2 * torch.sigmoid(2 * noise) - 1), centre)
        return self.project(centre + self.eps * self.direction(noise), centre)


def lengths(x: Tensor) -> Tensor:
    """l2 norm of each image, (B, 1, 1, 1)."""
    norms: Tensor = x.flatten(1).norm(dim=1)
    return norms[:, None, None, None]
