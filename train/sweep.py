"""The sweep command: the trade-off between classifier and density, measured over beta.

The same for ``oodgate sweep`` and ``python -m train.sweep``. It is Table 2 and Fig. 2 of
Mackowiak, Ardizzone, Köthe, Rother, CVPR 2021, for any recipe and data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from train.cli import DATA_HELP, INTERRUPTED, configured, run_command
from train.config import Precision
from train.recipes import RECIPES

if TYPE_CHECKING:
    from train.config import TrainConfig
    from train.sweep_measure import SweepRows
    from train.sweep_report import Sweep
    from train.sweep_runs import Point


def sweep(
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    test: Annotated[str, typer.Option(help="Labelled rows to measure on; DATA as above.")],
    recipe: Annotated[str, typer.Option(help=f"One of: {', '.join(RECIPES)}, auto.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs, the table and the figure.")],
    betas: Annotated[
        str, typer.Option(help="Weights of the class loss, 0 to inf, between commas.")
    ] = "0,1,2,4,8,16,32,inf",
    size: Annotated[
        int | None, typer.Option(help="Pixels a side for --recipe auto, 28 to 224.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Inside couplings; the recipe's if left out.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; 1 if left out.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="0 if left out.", min=0)] = None,
    resnet: Annotated[
        bool, typer.Option("--resnet/--no-resnet", help="Train the ResNet of like depth as well.")
    ] = True,
) -> None:
    """Train a recipe at several betas and measure what the class loss costs the density.

    Writes a run's folder a beta, sweep.json, sweep.md, and the figure sweep.png and sweep.svg; the
    report is of all finished runs in --out, whichever betas are asked for now.
    Ctrl-C saves the state; the same command goes on from it and keeps what is finished.
    """
    from train.sweep_measure import check_rows, load_rows
    from train.sweep_report import write_report
    from train.sweep_runs import check_runs, parse_betas, plan, runs_in

    given = {
        "size": size,
        "epochs": epochs,
        "precision": precision,
        "threads": threads,
        "seed": seed,
    }
    base = configured(recipe, data, {k: v for k, v in given.items() if v is not None})
    points = plan(base, parse_betas(betas), out, resnet=resnet)
    check_runs(points, base, out)
    rows = load_rows(base, test)  # before hours of training: a fault of the test set shows now
    for point in runs_in(out, base):
        check_rows(point, rows)
    diverged = _train(points)
    measured = _measure(base, test, rows, out, diverged)
    write_report(measured, out)
    _draw(measured, out)


def _measure(
    base: TrainConfig, test: str, rows: SweepRows, out: Path, diverged: Mapping[str, str]
) -> Sweep:
    """Every finished run in ``out``; what an earlier report has of the same weights is kept."""
    from train.sweep_measure import conditions, measure
    from train.sweep_report import Sweep, read_report
    from train.sweep_runs import is_finished, runs_in

    now = conditions(base, rows)
    earlier = read_report(out, now)
    figures, missing = [], dict(diverged)
    for point in runs_in(out, base):
        if is_finished(point):
            figures.append(measure(point, rows, earlier.figures))
        elif point.name not in missing:
            missing[point.name] = earlier.missing.get(point.name, "not trained to its end")
    return Sweep(base=base, test=test, rows=rows, conditions=now, figures=figures, missing=missing)


def _train(points: Sequence[Point]) -> dict[str, str]:
    """Train what is not finished; returns the names of runs that diverged, and how they did."""
    from train.divergence import TrainingDivergedError
    from train.sweep_runs import is_finished, train_point

    diverged: dict[str, str] = {}
    for number, point in enumerate(points, 1):
        done = ": trained before" if is_finished(point) else ""
        typer.echo(f"{point.name} ({number} of {len(points)}){done}", err=True)
        try:
            stopped = train_point(point)
        except TrainingDivergedError as error:
            # one beta that cannot be trained so leaves the others comparable
            diverged[point.name] = str(error)
            typer.echo(f"{point.name} is left out: {error}", err=True)
            continue
        if not stopped.finished:
            typer.echo(
                f"stopped at {point.name}, step {stopped.counters.step}; the same command goes on "
                "from there"
            )
            raise typer.Exit(INTERRUPTED)
    return diverged


def _draw(measured: Sweep, out: Path) -> None:
    from train.sweep_report import TABLE_FILE

    typer.echo(f"table in {out / TABLE_FILE}")
    try:
        from train.sweep_figure import write_figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        typer.echo('no figure without matplotlib: pip install "oodgate[figures]"', err=True)
        return
    typer.echo(f"figure in {write_figure(measured, out)}")


def main() -> None:
    """``python -m train.sweep``."""
    run_command(sweep)


if __name__ == "__main__":
    main()
