"""``oodgate evaluate``: bundle + known images + strangers -> report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.arguments import BundleArgument, BundlesOption
from service.cli.needs import need_figures, need_same_task
from train.cli import DATA_HELP

if TYPE_CHECKING:
    from calibration.rows import RowRecord
    from service.bundle import Bundle
    from train.data import ImageRows
    from train.evaluation.attack_plan import Budget
    from train.evaluation.measure import Baseline, Model
    from train.evaluation.sets import StrangeRows


def evaluate(
    bundle: BundleArgument,
    id_data: Annotated[
        str,
        typer.Option(
            "--id", metavar="DATA", help=f"Images that the model should know: {DATA_HELP}"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report; must be empty or not exist.")],
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="Strangers; far13:DATA is thirteen sets. Repeatable."),
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(metavar="CHECKPOINT", help="A finished run to compare with. Repeatable."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="A class of --id that the model was trained without, as strangers; default: all "
            "that it was trained without. Repeatable.",
        ),
    ] = None,
    strangers: Annotated[
        Path | None, typer.Option(help="Folder of sets as Parquet, that far13 takes others from.")
    ] = None,
    suite: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="What to measure, between commas: ood (strangers), calibration, corruptions (15 "
            "at 5 severities of --id), attacks (on the classifier, and on the gate as served), "
            "probes (of shape and texture). The last three go on where they were stopped when the "
            "command is given again; beside ood, attacks have its strangers let in, too.",
        ),
    ] = "ood,calibration",
    attack_budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="quick|full",
            help="Of attacks: quick (if left out) is 60 images and minutes, full 500 with restarts "
            "and hours.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows of a set.", min=1)] = None,
    bundles: BundlesOption = None,
) -> None:
    """Hold a bundle against images of its kind, strangers, corruptions and attacks.

    Writes evaluation.json, evaluation.md, a page evaluation.html that needs nothing else, and its
    figures. Rows that the model was trained, fitted or calibrated on are left out and counted.
    """
    need_figures("evaluate")
    from service.bundle import Bundle
    from service.catalog import find_bundle
    from train.evaluation.findings import in_short, worries
    from train.evaluation.measure import hold, measure
    from train.evaluation.report import refuse_filled, write_report
    from train.evaluation.suites import Asked, chosen, forget_cells, run_suites

    suites = chosen(suite)
    allowed = _budget(attack_budget, suites)
    refuse_filled(out)
    model = model_of(Bundle.load(find_bundle(bundle, bundles)))
    known, strange = _sets(model, suites, id_data, ood or [], leave_out or [], strangers)
    held = hold(model, known, _baselines(baseline or [], model), limit)
    parts = run_suites(suites, held, out, Asked(budget=allowed, strangers=tuple(strange)))
    measured = measure(held, strange, suites, parts)
    page = write_report(measured, out)
    forget_cells(suites, out)
    for line in in_short(measured):
        typer.echo(line)
    typer.echo(f"report in {page}; items of bad news in it: {len(worries(measured))}")


def _budget(name: str | None, suites: tuple[str, ...]) -> Budget:
    from train.data import DataError
    from train.evaluation.attack_plan import budget
    from train.evaluation.attack_suite import AttackSuite

    if name is not None and AttackSuite.name not in suites:
        raise DataError(
            f"--budget {name} is of attacks, which --suite {','.join(suites)} has none of: add "
            f"{AttackSuite.name} to --suite, or leave --budget out"
        )
    return budget(name or "quick")


def _sets(
    model: Model,
    suites: tuple[str, ...],
    known: str,
    ood: list[str],
    left_out: list[str],
    strangers: Path | None,
) -> tuple[ImageRows, list[StrangeRows]]:
    """The rows of ``known`` and, for the suite ood, sets of strangers."""
    from train.data import DataError, open_data
    from train.evaluation.measure import OOD
    from train.evaluation.sets import open_sets, split_known

    classes = model.checkpoint.class_labels
    if OOD in suites:
        return open_sets(known, ood, left_out, strangers, model.training, classes)
    given = {"--ood": ood, "--leave-out": left_out, "--strangers": strangers}
    for option, value in given.items():
        if value:
            raise DataError(
                f"{option} is for strangers, which --suite {','.join(suites)} has none of: add "
                f"{OOD} to --suite, or leave {option} out"
            )
    return split_known(open_data(known), (), model.training, classes)[0], []


def model_of(bundle: Bundle) -> Model:
    """What is evaluated of a bundle, on the GPU when there is one."""
    from model.scoring import default_device
    from train.evaluation.measure import Model

    bundle.checkpoint.classifier.to(default_device())
    return Model(
        name=bundle.name,
        version=bundle.version,
        checkpoint=bundle.checkpoint,
        calibration=bundle.calibration,
        record=bundle.rows,
        training=bundle.manifest.training,
    )


def _baselines(folders: list[Path], model: Model) -> list[Baseline]:
    from train.data import DataError
    from train.evaluation.attack_cell import MODEL

    found = [_baseline(folder, model) for folder in folders]
    names = [baseline.name for baseline in found]
    if len({*names, MODEL}) <= len(names):
        raise DataError(
            f"--baseline: found folders {names}, expected each of another name, and none of "
            f"{MODEL!r}, as reports call the bundle's: rename the folder"
        )
    return found


def _baseline(folder: Path, model: Model) -> Baseline:
    """A run of the model's input and classes; raises ``CheckpointError`` for any other."""
    from model.checkpoint import load_model
    from model.scoring import default_device
    from service.cli.source import finished_run
    from train.baselines import load_baseline
    from train.evaluation.measure import Baseline
    from train.run import MODEL_FOLDER
    from train.run_file import run_config

    run = finished_run(folder)
    kind = run_config(run).kind
    load = load_baseline if kind == "resnet" else load_model
    found = load(folder / MODEL_FOLDER)
    need_same_task(
        f"--baseline {folder}",
        (found.spec, found.class_labels),
        (model.checkpoint.spec, model.checkpoint.class_labels),
    )
    return Baseline(
        name=folder.resolve().name,
        kind=kind,
        classifier=found.classifier.to(default_device()),
        record=_rows(folder, run),
    )


def _rows(folder: Path, run: dict[str, Any]) -> RowRecord:
    from calibration.rows import RowRecord
    from model.checkpoint import CheckpointError
    from train.run_file import ROWS_FILE

    try:
        return RowRecord.from_bytes((folder / ROWS_FILE).read_bytes(), run["rows"])
    except OSError as error:
        raise CheckpointError(
            f"{error.filename}: {error.strerror}; expected the whole folder of a run: without the "
            "record of its rows nobody can tell whether it was trained on the rows of --id"
        ) from error
