"""What training needs to go on where it stopped: weights, optimiser, step; one plain file.

safetensors, written by rename: there is either the old state or the new one, and reading it runs
no code.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from model.checkpoint import CheckpointError, write_atomic

#: Loss, log_prob, correct answers and images of an epoch that has not begun.
EMPTY = (0.0, 0.0, 0.0, 0.0)

#: What reading another file, or one of another version, comes to.
_NO_STATE = (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError, IndexError)


@dataclass(frozen=True, kw_only=True)
class Counters:
    """How far a run is: optimiser steps, seconds spent training, sums of the epoch's figures."""

    step: int = 0
    seconds: float = 0.0
    sums: tuple[float, ...] = EMPTY


def save_state(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, counters: Counters
) -> None:
    """Write the tensors of ``module`` (the network, and its average), moments and counters."""
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {name: json.dumps(value) for name, value in asdict(counters).items()}
    write_atomic(path, save(contiguous, metadata))


def load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> Counters:
    """Put a saved state into ``module`` and ``optimizer``; returns its counters."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        module.load_state_dict(_under("model.", tensors))
        _load_moments(optimizer, _under("optimizer.", tensors))
        counters = {name: json.loads(value) for name, value in metadata.items()}
        return Counters(**{**counters, "sums": tuple(counters["sums"])})
    except torch.OutOfMemoryError:
        raise
    except _NO_STATE as error:
        said = str(error).partition("\n")[0]  # torch goes on to list every tensor
        raise CheckpointError(
            f"{path}: no state to resume from ({said}): start a new run"
        ) from error


def _load_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, kind = name.partition(".")
        if kind != "step":
            # in the parameter's memory format: a fused optimiser goes through both as they lie
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        moments.setdefault(int(index), {})[kind] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
