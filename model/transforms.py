"""Invertible transforms with exact log-determinants: the pieces of the flow.

A ``Transform`` maps a batch x of shape (B, ...) to z and back. Both directions also return
``ladj`` (B,): the log absolute determinant of the Jacobian of the direction taken, in nats.
Transforms keep no state between calls, and no sample sees another one of its batch, so a
likelihood does not depend on what it is computed with. Under autocast everything here keeps the
precision of its input; only the networks inside couplings (``model.couplings``,
``model.subnets``) compute in a lower one. How transforms are put together is in ``model.flow``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from model.dct import dct_matrix
from model.recompute import forward_recomputed

Transformed = tuple[Tensor, Tensor]

#: ActNorms whose output ``Compose.trace`` looks at, at most.
MEAN_SQUARES = 4


class Retraced(NamedTuple):
    """A forward pass whose input was found from its output: autograd's graph of one step.

    ``inputs``: the leaves, x or its parts along dimension 1; ``z`` and ``ladj`` are of them.
    """

    inputs: tuple[Tensor, ...]
    z: Tensor
    ladj: Tensor


class Traced(NamedTuple):
    """A forward pass with what it met on its way, each in float64 or in the precision of ``z``.

    ``z`` and ``ladj`` (B,) are what ``forward`` gives. ``ladjs`` (B, couplings): log-determinant of
    each coupling, nats. ``mean_squares`` (B, up to ``MEAN_SQUARES``): mean square of what ActNorms
    gave, the first, the last and others evenly between.
    """

    z: Tensor
    ladj: Tensor
    ladjs: Tensor
    mean_squares: Tensor


class Transform(nn.Module, ABC):
    """An invertible map with a known log-determinant in both directions.

    ``learns_volume``: whether the log-determinant depends on x, as that of a coupling does.
    """

    learns_volume = False

    @abstractmethod
    def forward(self, x: Tensor) -> Transformed:
        """Data to latent: (z, log|det dz/dx|)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Transformed:
        """Latent to data: (x, log|det dx/dz|)."""

    def by_place(self, x: Tensor) -> Transformed:
        """``forward`` of x (B, C, H, W), with its log-determinant by place, (B, h, w) in nats.

        h and w divide H and W. Sums over space are those of ``forward``; what depends on no place
        is spread evenly.
        """
        z, ladj = self(x)
        height, width = x.shape[2:]
        return z, (ladj / (height * width))[:, None, None].expand(-1, height, width)

    def initialise(self, x: Tensor) -> Tensor:
        """Set data-dependent parameters from one batch; returns the transformed batch."""
        return self(x)[0]  # type: ignore[no-any-return]

    def retrace(self, z: Tensor) -> Retraced:
        """The forward pass that gave z, with gradients: for ``model.recompute``."""
        with torch.no_grad():
            x = self.inverse(z)[0]
        x = x.detach().requires_grad_()
        return Retraced((x,), *self(x))


def full_precision(x: Tensor) -> torch.autocast:
    """A region in which autocast does not lower the precision of ``x``'s matrix products."""
    return torch.autocast(x.device.type, enabled=False)


def _no_ladj(x: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0])


def _added_up(values: Tensor, height: int) -> Tensor:
    """Values (B, h, w) by place, at a lower resolution of so many rows: sums stay what they are."""
    step = values.shape[1] // height
    return nn.functional.avg_pool2d(values, step, divisor_override=1) if step > 1 else values


def _columns(values: list[Tensor], x: Tensor) -> Tensor:
    """(B,) each to (B, N), with N = 0 too."""
    return torch.stack(values, dim=1) if values else x.new_zeros(x.shape[0], 0)


def _spread(places: list[int]) -> set[int]:
    """Up to ``MEAN_SQUARES`` of them, evenly apart, the first and the last among them."""
    last = len(places) - 1
    return {places[round(i * last / (MEAN_SQUARES - 1))] for i in range(MEAN_SQUARES) if places}


class Compose(Transform):
    """Transforms one after the other; log-determinants add, in float64.

    At D = 150,528 a log-determinant reaches 1e5 nats, where float32 steps are 0.01. With the
    attribute ``recompute`` set, training keeps the activations of one transform at a time and
    finds the others again by inversion (``model.recompute``): less memory for more time.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.recompute = False
        self.transforms = nn.ModuleList(transforms)

    @property
    def steps(self) -> list[Transform]:
        """The transforms from data to latent."""
        return [cast(Transform, transform) for transform in self.transforms]

    def forward(self, x: Tensor) -> Transformed:
        if self.recompute and self.training and torch.is_grad_enabled():
            return forward_recomputed(self.steps, x)
        total = _no_ladj(x).double()
        for transform in self.steps:
            x, ladj = transform(x)
            total = total + ladj
        return x, total

    def trace(self, x: Tensor) -> Traced:
        """``forward`` of x (B, C, H, W), with the figures of each block."""
        total, ladjs, norms = _no_ladj(x).double(), [], []
        steps = self.steps
        watched = _spread([i for i, step in enumerate(steps) if isinstance(step, ActNorm)])
        for i, transform in enumerate(steps):
            x, ladj = transform(x)
            total = total + ladj
            if transform.learns_volume:
                ladjs.append(ladj)
            elif i in watched:
                norms.append(torch.linalg.vector_norm(x, dim=(1, 2, 3)))
        # every step keeps the number of values
        return Traced(x, total, _columns(ladjs, x), _columns(norms, x).square() / x[0].numel())

    def by_place(self, x: Tensor) -> Transformed:
        """As every transform; what came before a downsampling is added up to what comes after."""
        total = x.new_zeros(x.shape[0], *x.shape[2:]).double()
        for transform in self.steps:
            x, ladj = transform.by_place(x)
            total = _added_up(total, ladj.shape[1]) + ladj
        return x, total

    def inverse(self, z: Tensor) -> Transformed:
        total = _no_ladj(z).double()
        for transform in reversed(self.steps):
            z, ladj = transform.inverse(z)
            total = total + ladj
        return z, total

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        for transform in self.steps:
            x = transform.initialise(x)
        return x


class ActNorm(Transform):
    """Per-channel scale and offset: z = x exp(log_scale) + offset (Kingma & Dhariwal, 2018).

    ``initialise`` sets them so that the given batch leaves with mean 0 and variance 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def _ladj(self, x: Tensor) -> Tensor:
        return (self.log_scale.double().sum() * x[0, 0].numel()).expand(x.shape[0])

    def forward(self, x: Tensor) -> Transformed:
        scale, offset = self.log_scale.exp()[:, None, None], self.offset[:, None, None]
        return torch.addcmul(offset, x, scale), self._ladj(x)

    def inverse(self, z: Tensor) -> Transformed:
        scale = (-self.log_scale).exp()[:, None, None]
        return (z - self.offset[:, None, None]) * scale, -self._ladj(z)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        std, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0)
        std = std.clamp_min(1e-3)  # a constant channel must not be blown up
        self.log_scale.copy_(-std.log())
        self.offset.copy_(-mean / std)
        return self(x)[0]  # type: ignore[no-any-return]


class Permutation(Transform):
    """A fixed channel permutation, stored as an index: no arithmetic, no parameters."""

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.check()

    def check(self) -> None:
        """Raise ``ValueError`` where the index, given or loaded, takes a channel twice or none."""
        found = self.index
        if not torch.equal(found.sort().values.cpu(), torch.arange(len(found))):
            strange = sorted(set(range(len(found))) ^ set(found.tolist()))[:5]
            raise ValueError(
                f"index is not a permutation of 0..{len(found) - 1}: {strange} missing or too many"
            )

    def forward(self, x: Tensor) -> Transformed:
        return x.index_select(1, self.index), _no_ladj(x)

    def inverse(self, z: Tensor) -> Transformed:
        # argsort of the stored index, since a loaded checkpoint replaces it
        return z.index_select(1, self.index.argsort()), _no_ladj(z)


class HaarDownsample(Transform):
    """Orthonormal 2 x 2 Haar transform: (B, C, H, W) to (B, 4C, H/2, W/2), ladj 0.

    Channels leave in the order average, horizontal, vertical and diagonal difference, C each.
    """

    def forward(self, x: Tensor) -> Transformed:
        a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
        c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
        return torch.cat(_haar(a, b, c, d), dim=1), _no_ladj(x)

    def inverse(self, z: Tensor) -> Transformed:
        # the 4 x 4 Haar matrix is symmetric and orthonormal, hence its own inverse
        a, b, c, d = _haar(*z.chunk(4, dim=1))
        batch, channels, height, width = a.shape
        x = torch.stack([a, b, c, d], dim=-1).reshape(batch, channels, height, width, 2, 2)
        x = x.permute(0, 1, 2, 4, 3, 5)
        return x.reshape(batch, channels, 2 * height, 2 * width), _no_ladj(z)


def _haar(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        0.5 * (a + b + c + d),
        0.5 * (a - b + c - d),
        0.5 * (a + b - c - d),
        0.5 * (a - b - c + d),
    )


class DctPool(Transform):
    """Orthonormal 2-D DCT-II of each channel, flattened frequency-major; ladj 0.

    (B, C, H, W) to (B, H W C): entry (u W + v) C + c is frequency (u, v) of channel c, so the
    first C entries are sqrt(H W) times the channel means: average pooling that loses nothing.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, height, width)
        self.register_buffer("rows", _dct(height), persistent=False)
        self.register_buffer("columns", _dct(width), persistent=False)

    def forward(self, x: Tensor) -> Transformed:
        with full_precision(x):
            coefficients = self.rows @ x @ self.columns.T
        return coefficients.permute(0, 2, 3, 1).flatten(1), _no_ladj(x)

    def inverse(self, z: Tensor) -> Transformed:
        channels, height, width = self.shape
        coefficients = z.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        with full_precision(z):
            return self.rows.T @ coefficients @ self.columns, _no_ladj(z)


def _dct(n: int) -> Tensor:
    return torch.from_numpy(dct_matrix(n)).to(torch.get_default_dtype())


class Normalize(Transform):
    """Fixed per-channel standardisation of pixels in [0, 1]: z = (x - mean) / std.

    The figures come from the first training rows and travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, x: Tensor) -> Transformed:
        z = (x - self.mean[:, None, None]) / self.std[:, None, None]
        return z, self._ladj(x)

    def inverse(self, z: Tensor) -> Transformed:
        x = z * self.std[:, None, None] + self.mean[:, None, None]
        return x, -self._ladj(z)

    def _ladj(self, x: Tensor) -> Tensor:
        return (-self.std.double().log().sum() * x[0, 0].numel()).expand(x.shape[0])

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        std, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0)
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-3))
        return self(x)[0]  # type: ignore[no-any-return]
