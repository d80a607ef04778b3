"""An evaluation as blocks, in the order in which they are read: what was held against what, what
came of it, what is bad news, then the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping

from train.evaluation.document import Block, Bullets, Fold, Heading, Picture, Table, Text
from train.evaluation.drawing import Drawing
from train.evaluation.findings import checked, in_short, worries
from train.evaluation.measure import CALIBRATION, OOD, Measured
from train.evaluation.tables import (
    MEASURES,
    class_table,
    detector_table,
    main_table,
    posterior_table,
    realised_table,
    ten_crop_table,
)

#: What a report says in the place of accuracy by ten crops.
NO_CROPS = "Accuracy by ten crops: not computed, no image is larger than the model's input."


def title(measured: Measured) -> str:
    """What the report is of."""
    return f"{measured.model.name} {measured.model.version}: what it lets in and what it turns away"


def blocks(
    measured: Measured, drawings: Mapping[str, Drawing], facts: Mapping[str, str]
) -> list[Block]:
    """The whole report; ``facts``: how it was measured, in words."""
    suites = measured.evaluation.suites
    valid = CALIBRATION in suites
    return [
        *_opening(measured),
        *(_strangers(measured, drawings) if OOD in suites else ()),
        *(block for part in measured.parts for block in part.blocks),
        *(_validity(measured, drawings) if valid else ()),
        *(_posterior(measured, drawings) if valid else ()),
        *_images(drawings),
        Heading(text="How it was measured", level=2),
        Table(
            heads=("what", "found"),
            rows=tuple(facts.items()),
            caption="All numbers of this report are in evaluation.json.",
            numbers=False,
        ),
    ]


def _opening(measured: Measured) -> list[Block]:
    bad = worries(measured)
    return [
        Heading(text=title(measured), level=1),
        Text(text=_what_was_held(measured)),
        *(Text(text=note) for note in _notes(measured)),
        Bullets(items=in_short(measured)),
        *(_gate(measured) if OOD in measured.evaluation.suites else ()),
        Heading(text="Bad news", level=2),
        Bullets(items=bad, bad=True) if bad else Text(text="None was found."),
        Text(text=checked(measured)),
    ]


def _gate(measured: Measured) -> list[Block]:
    excluded = [pair for pair in measured.evaluation.pairs if pair.excluded]
    return [
        Heading(text="The gate on each set", level=2),
        main_table(measured.evaluation),
        *(Text(text=f"* {p.name} is not in the mean: {p.excluded}.") for p in excluded),
    ]


def _what_was_held(measured: Measured) -> str:
    evaluation = measured.evaluation
    known, count = evaluation.known, len(evaluation.pairs)
    sets = "one set" if count == 1 else f"each of {count} sets"
    drawn = f" At most {evaluation.limit:,} rows of a set were drawn." if evaluation.limit else ""
    against = f" Baselines: {', '.join(evaluation.baselines)}." if evaluation.baselines else ""
    images = f"{known.rows:,} images of {known.data}, which the model should know and has not seen"
    if OOD not in evaluation.suites:
        return f"{images}, were looked at.{drawn}{against}"
    return (
        f"{images}, were held against {sets} of strangers, which it should not know: "
        f"{sum(pair.rows for pair in evaluation.pairs):,} images. Both were decoded and "
        f"resized in the same way.{drawn}{against}"
    )


def _notes(measured: Measured) -> list[str]:
    """What of the rows somebody who reads the numbers has to know."""
    evaluation = measured.evaluation
    known = evaluation.known
    said = []
    if known.refused:
        said.append(
            f"Refused {known.refused:,} rows of {known.data}: the model was trained, fitted or "
            "calibrated on them."
        )
    for pair in evaluation.pairs:
        if pair.note:
            said.append(f"{pair.name}: {pair.note}.")
        if pair.refused:
            said.append(f"Refused {pair.refused:,} rows of {pair.name}: the model had seen them.")
        if pair.shared:
            said.append(
                f"{pair.shared:,} images of {pair.name} are among the known images too; no gate "
                "is to tell these apart."
            )
    wild = known.not_finite + sum(pair.not_finite for pair in evaluation.pairs)
    if wild:
        said.append(f"{wild:,} images have a score that is no finite number.")
    return said


def _strangers(measured: Measured, drawings: Mapping[str, Drawing]) -> list[Block]:
    evaluation = measured.evaluation
    tables = [
        Fold(title=name, blocks=(detector_table(evaluation, field, name, meaning),))
        for field, name, meaning in MEASURES
    ]
    return [
        Heading(text="Every detector", level=2),
        _picture(drawings["auroc"]),
        *tables,
        Heading(text="Known and strange, side by side", level=2),
        *(_picture(drawings[name]) for name in ("roc", "strange_p_values", "scores")),
    ]


def _validity(measured: Measured, drawings: Mapping[str, Drawing]) -> list[Block]:
    evaluation, calibration = measured.evaluation, measured.model.calibration
    found: list[Block] = [
        Heading(text="Does the p-value keep its word", level=2),
        realised_table(evaluation, calibration.reference_size, calibration.mode),
        _picture(drawings["known_p_values"]),
    ]
    if evaluation.classes:
        found += [
            Heading(text="By class", level=3),
            _picture(drawings["class_rates"]),
            Fold(title="The numbers", blocks=(class_table(evaluation, calibration.mode),)),
        ]
    return found


def _posterior(measured: Measured, drawings: Mapping[str, Drawing]) -> list[Block]:
    evaluation = measured.evaluation
    heading = Heading(text="Posterior", level=2)
    if not evaluation.posteriors:
        return [heading, Text(text="The known images have no labels: nothing is known of it.")]
    return [
        heading,
        posterior_table(evaluation, measured.model.calibration.set_level),
        ten_crop_table(evaluation.ten_crop) if evaluation.ten_crop else Text(text=NO_CROPS),
        _picture(drawings["reliability"]),
    ]


def _images(drawings: Mapping[str, Drawing]) -> list[Block]:
    sheets: dict[str, list[Drawing]] = {}
    for drawing in drawings.values():
        if drawing.group:
            sheets.setdefault(drawing.group, []).append(drawing)
    return [
        Heading(text="Images", level=2),
        Text(text="Ordered by the gate's score, the first on the upper left."),
        *(
            Fold(title=group, blocks=tuple(map(_picture, members)))
            for group, members in sheets.items()
        ),
    ]


def _picture(drawing: Drawing) -> Picture:
    return Picture(file=drawing.file, alt=drawing.alt, caption=drawing.caption)
