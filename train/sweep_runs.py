"""The runs of a sweep over beta: which there are, which folder each has, how each goes on.

Every run is an ordinary one of ``train.run``; nothing here measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointError
from model.config import FlowConfig
from train.auto import recipe_of
from train.baselines import ResNetConfig, matched_resnet
from train.config import TrainConfig
from train.loop import Stopped
from train.recipes import RecipeError
from train.run import resume, train_new
from train.run_file import RUN_FILE, read_run, run_architecture, run_config

RESNET = "resnet"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of a sweep: its settings, the folder it is in, and its name for a reader."""

    name: str
    folder: Path
    config: TrainConfig


def parse_betas(text: str) -> tuple[float, ...]:
    """``"0,1,inf"`` to ascending numbers; raises ``RecipeError`` for anything else."""
    try:
        betas = sorted(float(word) + 0.0 for word in text.split(","))  # + 0.0: no beta "-0"
    except ValueError:
        betas = [math.nan]
    if not all(beta >= 0 for beta in betas) or len(set(betas)) < len(betas):
        raise RecipeError(
            f"betas {text!r}: expected different numbers from 0 to inf between commas, such as "
            "0,1,4,inf"
        )
    return tuple(betas)


def beta_word(beta: float) -> str:
    """A beta as the user writes it: 0, 0.5, 4, inf."""
    return repr(beta).removesuffix(".0")


def plan(base: TrainConfig, betas: Sequence[float], out: Path, *, resnet: bool) -> list[Point]:
    """The runs of a sweep, which differ from ``base`` in beta alone; the ResNet comes last."""
    points = [
        Point(
            name=f"beta {beta_word(beta)}",
            folder=out / f"beta-{beta_word(beta)}",
            config=replace(base, beta=beta),
        )
        for beta in betas
    ]
    if resnet:
        baseline = replace(base, kind="resnet")
        points.append(Point(name=RESNET, folder=out / RESNET, config=baseline))
    return points


def check_runs(points: Sequence[Point], base: TrainConfig, out: Path) -> None:
    """Raise ``CheckpointError`` where a run in ``out`` was made with other settings.

    Also one whose beta is not asked for now: a folder holds runs of one sweep, comparable.
    """
    asked = {point.folder: point.config for point in points}
    for path in sorted(out.glob(f"*/{RUN_FILE}")):
        run = read_run(path.parent)
        found = run_config(run)
        wanted = asked.get(path.parent, replace(base, beta=found.beta, kind=found.kind))
        differences = _differences(found, wanted)
        if not differences and run_architecture(run, found) != _recipes_architecture(run, found):
            differences = [f"another architecture than recipe {found.recipe} has now"]
        if differences:
            raise CheckpointError(
                f"{path.parent} holds a run of another sweep: {'; '.join(differences)}. Choose "
                "another --out, or the settings of that run"
            )


def _differences(found: TrainConfig, wanted: TrainConfig) -> list[str]:
    expected = wanted.to_dict()
    return [
        f"{name} is {value!r}, expected {expected[name]!r}"
        for name, value in found.to_dict().items()
        if value != expected[name]
    ]


def _recipes_architecture(run: dict[str, Any], config: TrainConfig) -> FlowConfig | ResNetConfig:
    recipe = recipe_of(config.recipe, config.data, config.size)
    flow = recipe.flow_config(len(run["classes"]), config.seed)
    return matched_resnet(flow) if config.kind == RESNET else flow


def runs_in(out: Path, base: TrainConfig) -> list[Point]:
    """The runs that ``out`` holds, by ascending beta, whether asked for now or not.

    After ``check_runs``; a run in a folder of another name than the sweep gives it is none of it.
    """
    found = [run_config(read_run(path.parent)) for path in out.glob(f"*/{RUN_FILE}")]
    betas = sorted({config.beta for config in found if config.kind != RESNET})
    points = plan(base, betas, out, resnet=True)
    return [point for point in points if (point.folder / RUN_FILE).exists()]


def is_finished(point: Point) -> bool:
    """Whether its training is done."""
    if not (point.folder / RUN_FILE).exists():
        return False
    return bool(read_run(point.folder).get("progress", {}).get("finished"))


def train_point(point: Point) -> Stopped:
    """Start the run, or go on with it; a finished one stays as it is."""
    if (point.folder / RUN_FILE).exists():
        return resume(point.folder)
    return train_new(point.config, point.folder)
