"""A run that takes a third of a second, and what its folder holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from model.config import StageConfig
from train.config import TrainConfig
from train.loop import HISTORY_FILE
from train.recipes import RECIPES

TINY = TrainConfig(recipe="tiny", data="digits", epochs=3, batch_size=200, learning_rate=3e-3)
STEPS = 18

#: With dropout; registered by the fixture ``tiny_recipe``.
RECIPE = replace(
    RECIPES["digits"],
    name="tiny",
    stages=(StageConfig(downsample="haar", blocks=2, width=6),),
    dropout=0.3,
)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "weights.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def history(out: Path) -> list[dict[str, Any]]:
    """The run's log, an entry an epoch."""
    return [json.loads(line) for line in (out / HISTORY_FILE).read_text().splitlines()]
