"""The train command: the same for ``oodgate train`` and ``python -m train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from train.config import Precision, TrainConfig
from train.recipes import RECIPES, RecipeError, find_recipe

if TYPE_CHECKING:
    from train.loop import Stopped

#: How a shell reports an end by Ctrl-C.
INTERRUPTED = 130

DATA_HELP = (
    "digits[:split], NAME[:split] of a torchvision data set, a folder with one sub-folder a class, "
    "a folder or glob of images without labels, or Parquet (file, folder, URL) with columns image "
    "and label."
)


def train(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "",
    recipe: Annotated[str, typer.Option(help=f"One of: {', '.join(RECIPES)}.")] = "",
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
        typer.Option(help="Bundle or checkpoint whose flow to begin with, for other classes."),
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
        typer.Option("--compile/--no-compile", help="By torch.compile; pays on a GPU."),
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
        "beta": beta,
        "seed": seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "fit_rows": fit_rows,
        "cal_rows": cal_rows,
        "threads": threads,
        "kind": baseline,
        "init": None if init is None else str(init),
        "precision": precision,
        "compile": compile_,
        "recompute": recompute,
        "workers": workers,
        **({"flip": False, "shift": 0} if augment is False else {}),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if resume:
        if data or recipe or given:
            raise RecipeError("--resume goes on with the settings of the run: give only --out")
        _report(resume_run(out), out)
        return
    if not data or not recipe:
        raise RecipeError("--data and --recipe are needed to start a run (or --resume to go on)")
    config = _configured(recipe, data, given)
    typer.echo(f"recipe {recipe}, as it stands: {find_recipe(recipe).expected}", err=True)
    _report(train_new(config, out), out)


def _configured(recipe: str, data: str, given: Mapping[str, object]) -> TrainConfig:
    try:
        return replace(find_recipe(recipe).train_config(data=data), **given)  # type: ignore[arg-type]
    except ValueError as error:
        raise RecipeError(str(error)) from error


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
    from model.image import ImageError
    from train.data import DataError
    from train.divergence import TrainingDivergedError

    return (
        CalibrationError,
        CheckpointError,
        DataError,
        ImageError,
        OSError,
        RecipeError,
        TrainingDivergedError,
    )


def main() -> None:
    """``python -m train``: errors a user can mend are one line, without a traceback."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(train)
    try:
        app()
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
