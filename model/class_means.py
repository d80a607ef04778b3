"""Class means mu_y of the latent mixture, given only through what the classifier needs of them.

The logits need z . mu_y and |mu_y|^2, sampling and distances need mu_y of chosen classes. So K
means of D entries need not exist: at D = 150,528 and K = 1,000 they would take 602 MB, and their
product with z 150 million multiply-adds an image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

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
    def by_place(self, field: Tensor, pool: DctPool) -> tuple[Tensor, Tensor]:
        """What each place of the last resolution adds to ``inner`` and to ``square_norm``.

        ``field`` (B, C, H, W) is ``pool.inverse`` of latent codes. (B, K, H, W) and (K, H, W); the
        transform is orthonormal, so their sums over space are the two.
        """


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

    def by_place(self, field: Tensor, pool: DctPool) -> tuple[Tensor, Tensor]:
        means = pool.inverse(self.weight)[0]
        with full_precision(field):
            inner = torch.einsum("bchw,kchw->bkhw", field, means)
        return inner, means.square().sum(1)


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
        self._known: tuple[object, Tensor] | None = None

    def inner(self, z: Tensor) -> Tensor:
        channels = self.pooled.shape[1]
        low_rank = (z[:, channels:] @ self.basis.T) @ self.coordinates.T
        return z[:, :channels] @ self.pooled.T + low_rank

    def square_norm(self) -> Tensor:
        known = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        if not known or any(p.is_inference() for p in self.parameters()):
            return self._square_norm()
        # the Gram matrix costs a third of an ImageNet image's forward pass, and changes only with
        # the weights: torch counts a tensor's versions, but for what fused optimisers do
        key = [(p.data_ptr(), p._version, p.dtype) for p in self.parameters()]
        if self._known is None or self._known[0] != key:
            self._known = (key, self._square_norm())
        return self._known[1]

    def train(self, mode: bool = True) -> LowRankMeans:
        self._known = None  # an optimiser may have been at work
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

    def by_place(self, field: Tensor, pool: DctPool) -> tuple[Tensor, Tensor]:
        _, height, width = pool.shape
        # a mean over space is the same at all places; the other entries are those of the basis
        constant = self.pooled / math.sqrt(height * width)
        basis = pool.inverse(nn.functional.pad(self.basis, (constant.shape[1], 0)))[0]
        with full_precision(field):
            along = torch.einsum("bchw,rchw->brhw", field, basis)
            low_rank = torch.einsum("kr,brhw->bkhw", self.coordinates, along)
            inner = torch.einsum("kc,bchw->bkhw", constant, field) + low_rank
            gram = torch.einsum("rchw,schw->hwrs", basis, basis)
            squares = torch.einsum("kr,hwrs,ks->khw", self.coordinates, gram, self.coordinates)
            crossed = torch.einsum("kc,rchw->hwkr", constant, basis)
            cross = torch.einsum("kr,hwkr->khw", self.coordinates, crossed)
        return inner, constant.square().sum(1)[:, None, None] + 2 * cross + squares


def build_class_means(config: FlowConfig) -> ClassMeans:
    """The means that ``config.means`` asks for, every pair at distance ``config.mu_init``."""
    return FullMeans(config) if config.means == "full" else LowRankMeans(config)


def _equidistant(config: FlowConfig, dim: int) -> Tensor:
    """(K, dim): one-hot tiles, scaled."""
    repeats = dim // config.n_classes
    tiles = torch.eye(config.n_classes).repeat(1, repeats) * config.mu_init / math.sqrt(2 * repeats)
    return nn.functional.pad(tiles, (0, dim - tiles.shape[1]))
