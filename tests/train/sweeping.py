"""A tiny sweep on the digits, for the tests of what it writes and of how it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.config import StageConfig
from train import sweep_measure
from train.recipes import RECIPES
from train.sweep import sweep
from train.sweep_runs import beta_word

FOLDERS = ("beta-0", "beta-1", "beta-inf", "resnet")
REPORT = ("sweep.json", "sweep.md", "sweep.png", "sweep.svg")

#: What figures are measured with, whatever state the working tree is in: a clean commit.
COMMIT = 40 * "c"

#: Enough for some predictions to be confident, some of them wrongly.
EPOCHS = 12
STEPS = 6 * EPOCHS
RECIPE = replace(
    RECIPES["digits"],
    name="tiny",
    stages=(StageConfig(downsample="haar", blocks=2, width=6),),
    batch_size=200,
    learning_rate=2e-2,
)


def prepare(patch: pytest.MonkeyPatch, commit: str | None = COMMIT) -> None:
    """The recipe by its name, and the commit of the code that measures."""
    patch.setitem(RECIPES, "tiny", RECIPE)
    patch.setattr(sweep_measure, "git_commit", lambda: commit)


def run(out: Path, **changes: Any) -> None:
    """The command, with settings of this sweep where ``changes`` has no other."""
    settings = {"data": "digits", "test": "digits:test", "recipe": "tiny", "betas": "0,1,inf"}
    sweep(**{**settings, "out": out, "epochs": EPOCHS, **changes})


def points(out: Path) -> dict[str, dict[str, Any]]:
    """What ``sweep.json`` says of each run, by the name of its folder."""
    content = json.loads((out / "sweep.json").read_text(), parse_constant=pytest.fail)
    return {
        "resnet" if point["beta"] is None else f"beta-{beta_word(float(point['beta']))}": point
        for point in content["points"]
    }


def contents(out: Path) -> dict[Path, bytes]:
    """Every file of a folder."""
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
