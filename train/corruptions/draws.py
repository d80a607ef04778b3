"""Random numbers of a batch of images, each image's own: what it is corrupted with depends on its
number and the seed, never on the batch that it comes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: Spreads seeds and numbers over what a generator takes; a prime.
_STRIDE = 1_000_003


@dataclass(frozen=True)
class Draws:
    """Of ``count`` images, the first of which is number ``first`` of its set."""

    seed: int
    first: int
    count: int
    _generators: list[torch.Generator] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """A generator an image."""
        numbers = range(self.first, self.first + self.count)
        made = [torch.Generator().manual_seed(self.seed * _STRIDE + n) for n in numbers]
        object.__setattr__(self, "_generators", made)

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), (count, *shape)."""
        return self._each(lambda g: torch.randn(shape, generator=g))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """U[low, high), (count, *shape)."""
        return self._each(lambda g: low + (high - low) * torch.rand(shape, generator=g))

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from ``low`` to below ``high``, (count, *shape), int64."""
        return self._each(lambda g: torch.randint(low, high, shape, generator=g))

    def poisson(self, rates: Tensor) -> Tensor:
        """Counts of rates (count, ...)."""
        pairs = zip(rates, self._generators, strict=True)
        return torch.stack([torch.poisson(rate, generator=g) for rate, g in pairs])

    def _each(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(generator) for generator in self._generators])
