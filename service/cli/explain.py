"""``oodgate explain``: bundle + images -> figures of why the model answers as it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.arguments import BundleArgument, BundlesOption
from service.cli.needs import need_figures, need_same_task

if TYPE_CHECKING:
    from service.cli.explain_images import Sight
    from service.cli.explain_subject import Explainer
    from service.predictor import Predictor
    from train.baselines import BaselineCheckpoint
    from train.evaluation.attack_run import AttackRun

#: Figures that are of no single image, which none of those is called.
SIMILARITY, ATTACKS = "class-similarity", "attack-trajectories"


class Format(StrEnum):
    """What a figure is written as."""

    PNG = "png"
    SVG = "svg"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where figures go, and as what."""

    folder: Path
    formats: tuple[str, ...]


def explain(
    bundle: BundleArgument,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Image files, or folders of them."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of figures; must be empty or not exist.")],
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="LABEL",
            help="Why (not) this class? Its heatmap beside that of the predicted class, and the "
            "way to it. Default: the three most probable classes.",
        ),
    ] = None,
    contrast: Annotated[
        float | None,
        typer.Option(
            metavar="C",
            help="What heatmaps hold a class against: 1 the average by the posterior, in which a "
            "sure class stands for itself and has an empty map; towards 0 all classes alike. "
            "Default: by image, so that the top class has about half the weight.",
        ),
    ] = None,
    format_: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Repeatable; default both.", case_sensitive=False),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="A run of train --baseline resnet: its Grad-CAM beside the heatmap of the class.",
        ),
    ] = None,
    attack: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN.npz",
            help="Draw attacks on their way: images (N, steps, C, H, W) float32 in [0, 1], step 0 "
            "the original; labels (N,) int64; targets (N,) int64 or left out.",
        ),
    ] = None,
    bundles: BundlesOption = None,
) -> None:
    """Draw why the model answers as it does: a figure an image, and one of its classes.

    NAME.png and NAME.svg of each image show which places speak for and against a class, how
    improbable each place is, where the image lies among the classes, its p-value among the
    reference, which statistics made the score, and what would turn it into another class. All of it
    is exact: parts add up to the numbers that the service answers. class-similarity shows which
    classes are alike to the model, attack-trajectories how attacks move. An image that cannot be
    read is reported, the others are explained, and the exit status is 1.
    """
    from service.cli.explain_images import image_files

    _refuse(contrast)
    need_figures("explain")
    files = image_files(images)
    predictor, asked = _opened(bundle, bundles, out, class_)
    baseline = None if compare is None else _baseline(compare, predictor)
    run = None if attack is None else _attack(attack, predictor)

    from service.cli.explain_images import read_images
    from service.cli.explain_subject import Explainer

    target = Target(folder=out, formats=tuple(dict.fromkeys(format_ or Format)))
    out.mkdir(parents=True, exist_ok=True)
    _draw_model(predictor, run, target)
    explainer = Explainer(predictor, asked=asked, contrast=contrast, baseline=baseline)
    sights = read_images(files, predictor.spec, (SIMILARITY, ATTACKS))
    failed = _draw_images(explainer, sights, len(files), target)
    if failed:
        typer.echo(f"{failed} of {len(files)} images could not be explained", err=True)
        raise typer.Exit(1)


def _refuse(contrast: float | None) -> None:
    from math import inf

    from train.data import DataError

    if contrast is not None and not 0 < contrast < inf:
        raise DataError(
            f"--contrast {contrast:g}: expected a number above 0; 1 is the posterior itself, 0.01 "
            "counts all classes nearly alike"
        )


def _opened(
    name: str, bundles: Path | None, out: Path, label: str | None
) -> tuple[Predictor, int | None]:
    """The model, and the index of the class asked for."""
    from difflib import get_close_matches

    from service.bundle import Bundle
    from service.catalog import find_bundle
    from service.predictor import Predictor
    from train.data import DataError
    from train.evaluation.report import refuse_filled

    refuse_filled(out)
    predictor = Predictor(Bundle.load(find_bundle(name, bundles)))
    labels = predictor.class_labels
    if label is None:
        return predictor, None
    if label not in labels:
        known = get_close_matches(label, labels, 5, 0.5) or labels[:20]
        more = "" if len(known) == len(labels) else f" (of {len(labels)} classes)"
        raise DataError(f"--class {label!r}: expected one like {', '.join(known)}{more}")
    return predictor, labels.index(label)


def _baseline(folder: Path, predictor: Predictor) -> BaselineCheckpoint:
    from model.checkpoint import CheckpointError
    from service.cli.source import finished_run
    from train.baselines import load_baseline
    from train.run import MODEL_FOLDER
    from train.run_file import run_config

    kind = run_config(finished_run(folder)).kind
    if kind != "resnet":
        raise CheckpointError(
            f"--compare {folder}: found a {kind}, expected a ResNet baseline: train one by "
            "oodgate train --baseline resnet"
        )
    found = load_baseline(folder / MODEL_FOLDER)
    need_same_task(
        f"--compare {folder}",
        (found.spec, found.class_labels),
        (predictor.spec, predictor.class_labels),
    )
    found.classifier.to(predictor.bundle.checkpoint.classifier.device)
    return found


def _attack(path: Path, predictor: Predictor) -> AttackRun:
    from train.data import DataError
    from train.evaluation.attack_run import read_attack_run

    run = read_attack_run(path)
    try:
        run.check_fits(predictor.spec.shape, len(predictor.class_labels))
    except DataError as error:
        raise DataError(f"--attack {path}: {error}") from error
    return run


def _draw_model(predictor: Predictor, run: AttackRun | None, target: Target) -> None:
    """The figures that are of no single image."""
    from service.cli.explain_attack import MOST, draw_attacks, paths_of
    from service.cli.explain_drawing import save
    from service.cli.explain_similarity import draw_similarity, similarity
    from train.evaluation.style import styled
    from train.progress import watch

    classifier = predictor.bundle.checkpoint.classifier
    with styled():
        found = similarity(classifier, predictor.class_labels)
        save(draw_similarity(found), target.folder, SIMILARITY, target.formats)
        if run is not None:
            count = min(MOST, len(run.images))
            paths = list(watch(paths_of(predictor, run), total=count, label="attacks"))
            figure = draw_attacks(paths, len(run.images))
            save(figure, target.folder, ATTACKS, target.formats)


def _draw_images(explainer: Explainer, sights: Iterator[Sight], total: int, target: Target) -> int:
    """Each as it is read; how many could not be. What is told comes after the bar."""
    from service.cli.explain_drawing import save
    from service.cli.explain_figure import draw, told
    from train.evaluation.style import styled
    from train.progress import say, watch

    told_of, errors = [], []
    for sight in watch(sights, total=total, label="explained", shown=total > 1):
        if sight.pixels is None:
            errors.append(f"{sight.path}: {sight.error}")
            continue
        subject = explainer(sight.name, sight.pixels)
        with styled():
            paths = save(draw(subject), target.folder, sight.name, target.formats)
        told_of.append(f"{told(sight.name, subject.found.verdict)}\n  {' '.join(map(str, paths))}")
    for line in told_of:
        typer.echo(line)
    for line in errors:
        say(line)
    return len(errors)
