"""The train command: the same for ``oodgate train`` and ``python -m train``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from train.auto import recipe_of
from train.config import Precision, TrainConfig
from train.recipes import RECIPES, RecipeError

if TYPE_CHECKING:
    from train.loop import Stopped

#: Settings that a ResNet has no use for.
FLOW_ONLY = ("beta", "dropout", "recompute")

#: How a shell reports an end by Ctrl-C.
INTERRUPTED = 130

DATA_HELP = (
    "digits[:split], NAME[:split] of a torchvision data set, a folder with one sub-folder a class, "
    "a folder or glob of images without labels, Parquet or Arrow with columns image (or uint8 "
    "pixels) and label, WebDataset tars, a URL of any file or folder, or far13:DATA, thirteen "
    "kinds of strangers made from DATA."
)


def train(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "",
    recipe: Annotated[
        str, typer.Option(help=f"One of: {', '.join(RECIPES)}, auto (for a folder of yours).")
    ] = "",
    size: Annotated[
        int | None, typer.Option(help="Pixels a side for --recipe auto, 28 to 224.")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            help="Weight of the class loss, 0 (a plain flow) to inf (a plain classifier); "
            "instead of the recipe's.",
            min=0,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Decides split, weights, order and noise; 0 if left out.", min=0),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the recipe's.")] = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Of hidden channels inside couplings; instead of the recipe's."),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(help="Train on so many rows, drawn by the seed; all if left out.", min=1),
    ] = None,
    fit_rows: Annotated[
        int | None,
        typer.Option(
            help="Rows held out to fit the gate; 5000 if left out, and with the next no more than "
            "30% of the data.",
            min=1,
        ),
    ] = None,
    cal_rows: Annotated[
        int | None,
        typer.Option(help="Rows held out to calibrate its p-values; 5000 if left out.", min=1),
    ] = None,
    baseline: Annotated[
        Literal["resnet"] | None,
        typer.Option(help="Train the baseline of the recipe's depth instead, alike in all else."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Bundle or checkpoint to begin with; means of the same classes stay."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Train as if DATA had no such class, to try it as a stranger; may be repeated.",
        ),
    ] = None,
    adversarial_eps: Annotated[
        float | None,
        typer.Option(
            help="Adversarial training: move half of each batch against its class, each pixel by "
            "up to so many 8-bit levels. Attacks become harder, training takes three times as long."
        ),
    ] = None,
    adversarial_steps: Annotated[
        int | None,
        typer.Option(
            help="Steps of that attack, 5 if left out; of 2 a network may learn to mask its "
            "gradients alone.",
            min=1,
        ),
    ] = None,
    augment: Annotated[
        bool | None,
        typer.Option("--augment/--no-augment", help="Flips and shifts, as the recipe has them."),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Of the networks inside couplings; instead of the recipe's."),
    ] = None,
    compile_: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="By torch.compile; no gain on a CPU."),
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option(
            "--recompute/--no-recompute",
            help="Recompute activations through the inverse: memory that does not grow with depth, "
            "for more time.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that share each batch, on a Ray cluster by Ray Train.", min=1),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster for --workers; RAY_ADDRESS if left out, and without one a Ray of "
            "this machine. Its machines share --out.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads, 1 if left out; small models gain nothing by more.", min=1),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, to the same result.")
    ] = False,
) -> None:
    """Train a generative classifier on labelled images.

    Rows for calibration are held out and recorded by content hash. Ctrl-C saves the state;
    --resume goes on from it. Next: oodgate calibrate.
    """
    from train.run import resume as resume_run
    from train.run import train_new

    asked = {
        "size": size,
        "beta": beta,
        "seed": seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "dropout": dropout,
        "rows": rows,
        "fit_rows": fit_rows,
        "cal_rows": cal_rows,
        "threads": threads,
        "kind": baseline,
        "init": None if init is None else _nearby(init),
        "precision": precision,
        "compile": compile_,
        "recompute": recompute,
        "workers": workers,
        "leave_out": tuple(leave_out) if leave_out else None,
        "adversarial_eps": adversarial_eps,
        "adversarial_steps": adversarial_steps,
        **({"flip": False, "shift": 0} if augment is False else {}),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if resume:
        if data or recipe or given or augment is not None:
            raise RecipeError("--resume goes on with the settings of the run: give only --out")
        _report(resume_run(out, address=address), out)
        return
    for_flows = [name for name in FLOW_ONLY if baseline and given.get(name, False) is not False]
    if for_flows:
        raise RecipeError(
            f"--{for_flows[0]} with --baseline {baseline}: expected a flow; leave out one of them"
        )
    if not data or not recipe:
        raise RecipeError("--data and --recipe are needed to start a run (or --resume to go on)")
    config = configured(recipe, data, given)
    if adversarial_steps is not None and not config.adversarial_eps:
        raise RecipeError(
            f"--adversarial-steps {adversarial_steps} without --adversarial-eps: expected how far "
            "images may be moved, too: give --adversarial-eps 4, or leave --adversarial-steps out"
        )
    if augment and not (config.flip or config.shift):
        raise RecipeError(
            f"--augment: recipe {recipe!r} has no flips or shifts to keep: leave --augment out"
        )
    expected = recipe_of(recipe, data, size).expected
    typer.echo(f"recipe {recipe}, as it stands: {expected}", err=True)
    _report(train_new(config, out, address=address), out)


def configured(recipe: str, data: str, given: Mapping[str, object]) -> TrainConfig:
    """The recipe's settings with those that were ``given``, by the names of ``TrainConfig``."""
    try:
        known = recipe_of(recipe, data, given.get("size"))  # type: ignore[arg-type]
        return replace(known.train_config(data=data), **given)  # type: ignore[arg-type]
    except ValueError as error:
        raise RecipeError(str(error)) from error


def _nearby(path: Path) -> str:
    """Relative where it lies below the current directory, so that a run's record can be shared."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and here in path.parents else path)


def _report(stopped: Stopped, out: Path) -> None:
    figures = ", ".join(f"{name} {value:.3f}" for name, value in stopped.figures.items())
    if not stopped.finished:
        typer.echo(f"stopped at step {stopped.counters.step}; go on with: --resume --out {out}")
        raise typer.Exit(INTERRUPTED)
    typer.echo(f"checkpoint in {out} after {stopped.counters.seconds:.0f} s; last epoch: {figures}")


def user_errors() -> tuple[type[Exception], ...]:
    """What a user can mend; anything else is a fault of ours and keeps its traceback."""
    from calibration.errors import CalibrationError
    from model.checkpoint import CheckpointError
    from model.compiling import CompilerError
    from model.image import ImageError
    from train.cluster import ClusterError
    from train.data import DataError
    from train.divergence import TrainingDivergedError

    return (
        CalibrationError,
        CheckpointError,
        ClusterError,
        CompilerError,
        DataError,
        ImageError,
        OSError,
        RecipeError,
        TrainingDivergedError,
    )


def main() -> None:
    """``python -m train``."""
    run_command(train)


def run_command(command: Callable[..., None]) -> None:
    """Run one command; errors that a user can mend are one line, without a traceback."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
