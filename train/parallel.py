"""The processes that train together: what they have to tell each other in a step.

``Alone`` is one process with nothing to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import nn


class World(Protocol):
    """``rank`` of ``size`` processes that hold the same weights and see parts of each batch."""

    rank: int
    size: int

    def sum(self, values: Sequence[float]) -> tuple[float, ...]:
        """Each value added up over all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        ...

    def sum_gradients(self, module: nn.Module) -> None:
        """Replace each parameter's gradient by its sum over all processes."""
        ...


class Alone:
    """A single process."""

    rank = 0
    size = 1

    def sum(self, values: Sequence[float]) -> tuple[float, ...]:
        """The values themselves."""
        return tuple(values)

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def sum_gradients(self, module: nn.Module) -> None:
        """Nothing to add."""
