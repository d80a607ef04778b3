"""One of two processes that train together, for ``test_parallel.py``: RANK FOLDER.

Everything asked of it is done in one start, since a process takes seconds to import torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from model.config import StageConfig
from train.config import TrainConfig
from train.divergence import TrainingDivergedError
from train.loop import Trainer
from train.parallel import Distributed
from train.recipes import RECIPES
from train.run import run_trainer

#: 1007 training rows: the last batch of an epoch holds a single one, none of it the second's.
TINY = TrainConfig(recipe="tiny", data="digits", epochs=2, batch_size=503, learning_rate=3e-3)

#: What is trained by one process and by two, by the name of its folder.
LAWS = {
    "flow": TINY,
    "augmented": replace(TINY, flip=True, shift=1, ema=0.9, label_smoothing=0.1),
    "plain": replace(TINY, beta=0.0),
}

#: BatchNorm sees each process's own images, so that this one comes to other weights.
BASELINE = replace(TINY, kind="resnet", epochs=1, batch_size=200)


def make_tiny_recipe() -> None:
    """A recipe that takes a tenth of a second an epoch, without dropout."""
    stages = (StageConfig(downsample="haar", blocks=2, width=6),)
    RECIPES["tiny"] = replace(RECIPES["digits"], name="tiny", stages=stages, dropout=0.0)


def sums(world: Distributed) -> dict[str, Any]:
    """What the two say to each other, beside gradients."""
    return {
        "sum": world.sum([world.rank + 1.0, 1e-12 + world.rank * 1e6]),
        "any": [world.any(False), world.any(world.rank == 1), world.any(True)],
        "told": [world.told_to_stop(), Distributed(Path(__file__)).told_to_stop()],
    }


def gradients(world: Distributed) -> dict[str, Any]:
    """Gradients that are here and there, here alone, and nowhere; then shared weights."""
    module = nn.ParameterDict({name: torch.full((2,), world.rank + 5.0) for name in "abc"})
    module["a"].grad = torch.tensor([1.0, 2.0]) * (world.rank + 1)
    if world.rank:
        module["b"].grad = torch.tensor([3.0, 4.0])
    world.sum_gradients(module)
    found = {name: p.grad if p.grad is None else p.grad.tolist() for name, p in module.items()}
    world.share_weights(module)
    return {"gradients": found, "shared": module["a"].tolist()}


def diverging(world: Distributed, folder: Path) -> str:
    """The error of a run whose weights go wrong in the second process alone."""
    step = Trainer._train_step

    def spoiled(self: Trainer, number: int, *rest: Any) -> None:
        if number == 4 and world.rank:
            next(self._learner.parameters()).data.fill_(float("inf"))
        step(self, number, *rest)

    Trainer._train_step = spoiled  # type: ignore[assignment, method-assign]
    try:
        run_trainer(TINY, folder / "diverged", world)
    except TrainingDivergedError as error:
        return str(error)
    finally:
        Trainer._train_step = step  # type: ignore[method-assign]
    return ""


def resumed(world: Distributed, folder: Path) -> list[int]:
    """The steps at which a run stopped: told to by a file, told by a count, at its end."""
    stop = folder / "stop"
    if world.rank == 0:
        stop.touch()
    told = Distributed(stop)
    steps = [run_trainer(TINY, folder / "resumed", told).counters.step]
    steps.append(run_trainer(TINY, folder / "resumed", world, stop_at=4).counters.step)
    steps.append(run_trainer(TINY, folder / "resumed", world).counters.step)
    return steps


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    make_tiny_recipe()
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    world = Distributed()
    found: dict[str, Any] = {**sums(world), **gradients(world)}
    checks: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("steps", lambda: resumed(world, folder)),
        ("diverged", lambda: diverging(world, folder)),
        ("resnet", lambda: run_trainer(BASELINE, folder / "resnet", world).figures),
    )
    for name, config in LAWS.items():
        found[name] = run_trainer(config, folder / name, world).figures
    found.update((name, check()) for name, check in checks)
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
