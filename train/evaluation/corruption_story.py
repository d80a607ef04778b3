"""The part of a report that is of corruptions: sentences, tables, figures and a sheet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from train.evaluation import corruption_figures as figures
from train.evaluation.corruption_cells import corrupted
from train.evaluation.corruption_findings import bad_news, checked, in_short
from train.evaluation.corruption_summary import Corruptions
from train.evaluation.corruption_tables import (
    auroc_of_corruptions,
    cell_table,
    measure_of_corruptions,
    robustness_table,
    severity_table,
)
from train.evaluation.document import Block, Fold, Heading, Picture, Text
from train.evaluation.judging import GATE
from train.evaluation.measure import Held
from train.evaluation.part import Part
from train.evaluation.style import styled, to_svg
from train.evaluation.tables import MEASURES
from train.storage import Storage

AUROC_FILE, ACCURACY_FILE = "corruptions_auroc.svg", "corruptions_accuracy.svg"
SHEET_FILE = "images/corruptions.png"

#: Sides below which the corruptions are not those of ImageNet-C.
LARGE = 224


def part_of(found: Corruptions, held: Held, storage: Storage) -> Part:
    """Everything that the report has of them."""
    with styled():
        files = {
            AUROC_FILE: to_svg(figures.auroc(found)),
            ACCURACY_FILE: to_svg(figures.accuracy(found)),
        }
    return Part(
        name="corruptions",
        data=found.to_json(),
        seeds={"corruptions": found.seed},
        in_short=in_short(found),
        bad_news=bad_news(found),
        checked=checked(),
        blocks=_blocks(found, min(held.model.checkpoint.spec.shape[1:])),
        files=files | {SHEET_FILE: _sheet(found, held, storage)},
    )


def _blocks(found: Corruptions, side: int) -> tuple[Block, ...]:
    measures = [
        Fold(title=title, blocks=(measure_of_corruptions(found, field, title, meaning),))
        for field, title, meaning in MEASURES[1:]  # the AUROC has a table of its own
    ]
    return (
        Heading(text="Corruptions", level=2),
        Text(text=_what(found, side)),
        auroc_of_corruptions(found),
        _auroc_picture(found),
        *measures,
        Heading(text="Corruptions: accuracy on what is accepted", level=2),
        severity_table(found),
        _accuracy_picture(),
        Heading(text="Corruptions: robustness of the classes", level=2),
        robustness_table(found),
        Fold(title="Every corruption at every severity", blocks=(cell_table(found),)),
        Fold(title="One image under all corruptions", blocks=(_sheet_picture(found),)),
    )


def _what(found: Corruptions, side: int) -> str:
    kind = (
        "the parameters of ImageNet-C"
        if side >= LARGE
        else f"corruptions-{side}: made anew for {side} pixels, neither CIFAR-10-C nor ImageNet-C"
    )
    return (
        f"{len(found.by_corruption)} corruptions at {len(found.by_severity) - 1} severities of "
        f"each of {found.rows:,} known images, {found.rows * len(found.cells):,} in all, held "
        f"against the clean ones: {kind}; frost is drawn, not photographed. Corrupted at the "
        f"model's input size, {found.storage}. Seed {found.seed}."
        + (" Stored anew: the control, not corrupted." if found.stored else "")
    )


def _sheet(found: Corruptions, held: Held, storage: Storage) -> bytes:
    """An image of middling strangeness, as the model sees it: clean and at each severity."""
    middle = int(np.argsort(held.known.judged.scores[GATE], kind="stable")[found.rows // 2])
    images = held.known.images.take(np.array([middle]))
    one = replace(held, known=replace(held.known, images=images))
    severities = [row.severity for row in found.by_severity if row.severity]
    rows = [
        (
            mean.group,
            np.concatenate(
                [images.pixels]
                + [corrupted(one, storage, mean.group, s, found.seed) for s in severities]
            ),
        )
        for mean in found.by_corruption
    ]
    return figures.sheet(rows, ["clean", *map(str, severities)])


def _auroc_picture(found: Corruptions) -> Picture:
    return Picture(
        file=AUROC_FILE,
        alt=f"AUROC of {len(found.detectors)} detectors on {len(found.by_corruption)} corruptions.",
        caption="AUROC of each detector (columns) on each corruption (rows), mean over severities; "
        "darker is better.",
    )


def _accuracy_picture() -> Picture:
    return Picture(
        file=ACCURACY_FILE,
        alt="Accuracy over severity, of all images and of the accepted, and the share rejected.",
        caption="Mean over corruptions, with 95% intervals as if each image counted once.",
    )


def _sheet_picture(found: Corruptions) -> Picture:
    names = ", ".join(mean.group for mean in found.by_corruption)
    return Picture(
        file=SHEET_FILE,
        alt=f"One known image, clean and at each severity (columns), under {names} (rows).",
        caption="A known image of middling strangeness to the gate, as the model sees it. Chance "
        "is drawn anew for the sheet.",
    )
