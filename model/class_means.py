"""Class means mu_y of the latent mixture, given only through what the classifier needs of them.

The logits need z . mu_y and |mu_y|^2, sampling and distances need mu_y of chosen classes. So K
means of D entries need not exist: at D = 150,528 and K = 1,000 they would take 602 MB, and their
product with z 150 million multiply-adds an image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.config import FlowConfig
from model.transforms import DctPool, full_precision


class ClassMeans(nn.Module, ABC):
    """K points in the D-dimensional latent space, learned."""

    @abstractmethod
    def inner(self, z: Tensor) -> Tensor:
        """z . mu_y for each latent code (B, D) and class: (B, K)."""

    @abstractmethod
    def square_norm(self) -> Tensor:
        """|mu_y|^2 (K,)."""

    @abstractmethod
    def of(self, labels: Tensor) -> Tensor:
        """mu_y (B, D) of the classes ``labels`` (B,)."""

    @abstractmethod
    def gram(self) -> Tensor:
        """mu_i . mu_j (K, K)."""

    @abstractmethod
    def inner_by_place(self, field: Tensor, pool: DctPool) -> Tensor:
        """What each place of the last resolution adds to ``inner``: (B, K, H, W).

        ``field`` (B, C, H, W) is ``pool.inverse`` of latent codes; the transform is orthonormal, so
        the sum over space is ``inner``.
        """

    @abstractmethod
    def square_norm_by_place(self, pool: DctPool) -> Tensor:
        """The same of ``square_norm``: (K, H, W)."""


class FullMeans(ClassMeans):
    """A free mean a class."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(_equidistant(config, config.dim))

    def inner(self, z: Tensor) -> Tensor:
        return z @ self.weight.T

    def square_norm(self) -> Tensor:
        return self.weight.square().sum(1)

    def of(self, labels: Tensor) -> Tensor:
        return self.weight[labels]

    def gram(self) -> Tensor:
        with full_precision(self.weight):
            return self.weight @ self.weight.T

    def inner_by_place(self, field: Tensor, pool: DctPool) -> Tensor:
        means = pool.inverse(self.weight)[0]
        with full_precision(field):
            return torch.einsum("bchw,kchw->bkhw", field, means)

    def square_norm_by_place(self, pool: DctPool) -> Tensor:
        return pool.inverse(self.weight)[0].square().sum(1)


class LowRankMeans(ClassMeans):
    """Free on the mean-pooled entries, of low rank on the others (Mackowiak et al., CVPR 2021).

    mu_y = (P_y, T_y M): ``pooled`` P (K, C) for the first C entries of the latent code, which are
    the channels' mean pooling, then ``coordinates`` T (K, R) along ``basis`` M (R, D - C).
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        pooled, rank = config.pooled_channels, config.means_rank
        rest = config.dim - pooled
        self.pooled = nn.Parameter(_equidistant(config, pooled))
        # zero coordinates on random unit directions: the means start equidistant, and learn
        self.coordinates = nn.Parameter(torch.zeros(config.n_classes, rank))
        generator = torch.Generator().manual_seed(config.seed)
        directions = torch.randn(rank, rest, generator=generator) / math.sqrt(max(rest, 1))
        self.basis = nn.Parameter(directions.to(torch.get_default_dtype()))
        self._known: dict[str, tuple[object, Tensor]] = {}

    def inner(self, z: Tensor) -> Tensor:
        channels = self.pooled.shape[1]
        low_rank = (z[:, channels:] @ self.basis.T) @ self.coordinates.T
        return z[:, :channels] @ self.pooled.T + low_rank

    def square_norm(self) -> Tensor:
        return self._remembered("square norm", self._square_norm)

    def _remembered(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What depends on the weights alone, computed anew when they have changed.

        It costs a third of an ImageNet image's forward pass and more. Torch counts a tensor's
        versions, but for what fused optimisers do.
        """
        known = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        if not known or any(p.is_inference() for p in self.parameters()):
            return compute()
        key = [(p.data_ptr(), p._version, p.dtype) for p in self.parameters()]
        found = self._known.get(name)
        if found is None or found[0] != key:
            found = self._known[name] = (key, compute())
        return found[1]

    def train(self, mode: bool = True) -> LowRankMeans:
        self._known = {}  # an optimiser may have been at work
        return super().train(mode)

    def _square_norm(self) -> Tensor:
        with full_precision(self.basis):
            gram = self.basis @ self.basis.T
            low_rank = ((self.coordinates @ gram) * self.coordinates).sum(1)
        return self.pooled.square().sum(1) + low_rank

    def of(self, labels: Tensor) -> Tensor:
        return torch.cat([self.pooled[labels], self.coordinates[labels] @ self.basis], dim=1)

    def gram(self) -> Tensor:
        with full_precision(self.basis):
            low_rank = self.coordinates @ (self.basis @ self.basis.T) @ self.coordinates.T
            return self.pooled @ self.pooled.T + low_rank

    def inner_by_place(self, field: Tensor, pool: DctPool) -> Tensor:
        constant, basis = self._in_space(pool)
        with full_precision(field):
            along = torch.einsum("bchw,rchw->brhw", field, basis)
            low_rank = torch.einsum("kr,brhw->bkhw", self.coordinates, along)
            return torch.einsum("kc,bchw->bkhw", constant, field) + low_rank

    def square_norm_by_place(self, pool: DctPool) -> Tensor:
        return self._remembered("by place", lambda: self._square_norm_by_place(pool))

    def _square_norm_by_place(self, pool: DctPool) -> Tensor:
        constant, basis = self._in_space(pool)
        with full_precision(basis):
            gram = torch.einsum("rchw,schw->hwrs", basis, basis)
            squares = torch.einsum("kr,hwrs,ks->khw", self.coordinates, gram, self.coordinates)
            crossed = torch.einsum("kc,rchw->hwkr", constant, basis)
            cross = torch.einsum("kr,hwkr->khw", self.coordinates, crossed)
        return constant.square().sum(1)[:, None, None] + 2 * cross + squares

    def _in_space(self, pool: DctPool) -> tuple[Tensor, Tensor]:
        """The pooled part (K, C), which is the same at all places, and the basis (R, C, H, W)."""
        _, height, width = pool.shape
        constant = self.pooled / math.sqrt(height * width)
        return constant, pool.inverse(nn.functional.pad(self.basis, (constant.shape[1], 0)))[0]


def build_class_means(config: FlowConfig) -> ClassMeans:
    """The means that ``config.means`` asks for, every pair at distance ``config.mu_init``."""
    return FullMeans(config) if config.means == "full" else LowRankMeans(config)


def _equidistant(config: FlowConfig, dim: int) -> Tensor:
    """(K, dim): one-hot tiles, scaled."""
    repeats = dim // config.n_classes
    tiles = torch.eye(config.n_classes).repeat(1, repeats) * config.mu_init / math.sqrt(2 * repeats)
    return nn.functional.pad(tiles, (0, dim - tiles.shape[1]))
