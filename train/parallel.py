"""The processes that train together: what they have to tell each other in a step.

``Alone`` is one process with nothing to tell, ``Distributed`` one of a group of torch.distributed.
Who starts them is none of this module's business: see ``train.distributed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn


class World(Protocol):
    """``rank`` of ``size`` processes that hold the same weights and see parts of each batch.

    All methods but ``told_to_stop`` are waits for one another: every process calls the same ones
    in the same order.
    """

    rank: int
    size: int

    def told_to_stop(self) -> bool:
        """Whether this process has heard that the run is to stop, by other ways than a signal."""
        ...

    def sum(self, values: Sequence[float]) -> tuple[float, ...]:
        """Each value added up over all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        ...

    def share_weights(self, module: nn.Module) -> None:
        """Give each process the parameters and buffers of the first."""
        ...

    def sum_gradients(self, module: nn.Module) -> None:
        """Replace each parameter's gradient by its sum over all processes."""
        ...


class Alone:
    """A single process."""

    rank = 0
    size = 1

    def told_to_stop(self) -> bool:
        """Never: it gets signals."""
        return False

    def sum(self, values: Sequence[float]) -> tuple[float, ...]:
        """The values themselves."""
        return tuple(values)

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def share_weights(self, module: nn.Module) -> None:
        """Nobody to share with."""

    def sum_gradients(self, module: nn.Module) -> None:
        """Nothing to add."""


class Distributed:
    """The processes of torch.distributed's default group; gradients go where they live (NCCL on
    GPUs), everything that the CPU waits for by gloo."""

    def __init__(self, stop: Path | None = None) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._stop = stop
        self._cpu: Any = dist.new_group(backend="gloo")

    def told_to_stop(self) -> bool:
        """Whether the file ``stop`` is there; the first process looks for all."""
        return self.rank == 0 and self._stop is not None and self._stop.exists()

    def sum(self, values: Sequence[float]) -> tuple[float, ...]:
        """See ``World``; in double precision."""
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._cpu)
        return tuple(sums.tolist())

    def any(self, flag: bool) -> bool:
        """See ``World``."""
        return self.sum([flag])[0] > 0

    @torch.no_grad()
    def share_weights(self, module: nn.Module) -> None:
        """See ``World``."""
        for value in module.state_dict().values():
            shared = value.contiguous()
            dist.broadcast(shared, 0)
            value.copy_(shared)

    @torch.no_grad()
    def sum_gradients(self, module: nn.Module) -> None:
        """See ``World``; missing in all processes is missing in the sum."""
        parameters = list(module.parameters())
        present = self.sum([parameter.grad is not None for parameter in parameters])
        parameters = [p for p, count in zip(parameters, present, strict=True) if count]
        if not parameters:
            return
        flat = torch.cat([_gradient(parameter).flatten() for parameter in parameters])
        dist.all_reduce(flat)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, total in zip(parameters, flat.split(sizes), strict=True):
            # in the parameter's memory format: a fused optimiser goes through both as they lie
            parameter.grad = torch.empty_like(parameter).copy_(total.view_as(parameter))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
