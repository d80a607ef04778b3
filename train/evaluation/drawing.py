"""All figures of a report as files, each with what is seen in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.figure import Figure

from calibration.modes import LABEL_SHIFT_SAFE, MARGINAL
from train.evaluation import contact_sheet, figures, known_figures
from train.evaluation.measure import CALIBRATION, OOD, Measured, Side
from train.evaluation.style import STROKES, styled, to_svg
from train.progress import Progress

#: Where sheets of images lie beside the report.
SHEETS = "images"

AUROC_CAPTION = "AUROC of each detector (columns) on each set (rows); darker is better."
ROC_CAPTION = (
    "Share of strangers found over the share of known images flagged, from .1% on; the higher at "
    "the left, the better. The thin curve is a gate without power."
)
STRANGE_CAPTION = (
    "The gate's p-values of strangers, with the share in the first bin (p ≤ .05). Dashed: where "
    "they would lie if strangers looked like known images."
)
SCORES_CAPTION = (
    "The gate's score of known images and of strangers, each panel on its own scale. What lies "
    "beyond an axis is in its outermost bar."
)
KNOWN_CAPTION = "p-values of known images; dashed: uniform."
BAND_CAPTION = (
    f" The band holds a perfect gate's share with {known_figures.BIN_LEVEL:.0%}, bin by bin: its "
    "p-values are uniform but for chance."
)
CLASSES_CAPTION = (
    "Known images with p at most alpha (dashed), by true class, with intervals that hold for all "
    "classes at once with 95%. Squares: "
)
PROMISED_CAPTION = (
    "more than a perfect gate, whose calibration rows are a draw too, has with 95% over all "
    "classes and alphas."
)
MOST_CAPTION = f" The {known_figures.MOST_CLASSES} classes with the largest share at .05."
RELIABILITY_CAPTION = (
    "Share of hits over confidence, in bins of equal mass with 95% intervals each; dashed: honest. "
    "Below: how many images have which confidence (logarithmic)."
)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """``content`` of ``file``; ``group``: the set that a sheet shows, empty for figures."""

    file: str
    content: bytes
    alt: str
    caption: str
    group: str = ""


class _Plan(NamedTuple):
    """A figure to be drawn."""

    draw: Callable[[], Figure]
    alt: str
    caption: str


def draw(measured: Measured) -> dict[str, Drawing]:
    """Every figure and sheet of strangers and calibration by its name."""
    plans: dict[str, _Plan] = {}
    if OOD in measured.evaluation.suites:
        plans |= _over_sets(measured)
    if CALIBRATION in measured.evaluation.suites:
        plans |= _over_known(measured)
    sides = (measured.known, *measured.strange)
    found = {}
    with styled(), Progress("drawing", len(plans) + 2 * len(sides), unit="figures") as progress:
        for name, plan in plans.items():
            content = to_svg(plan.draw())
            found[name] = Drawing(
                file=f"{name}.svg", content=content, alt=plan.alt, caption=plan.caption
            )
            progress.advance(1)
        for number, side in enumerate(sides):
            for typical in (True, False):
                sheet = _sheet(side, number, typical=typical)
                found[sheet.file] = sheet
                progress.advance(1)
    return found


def _over_sets(measured: Measured) -> dict[str, _Plan]:
    evaluation, known, strange = measured.evaluation, measured.known.judged, measured.strange
    titles = evaluation.detectors
    curves = ", ".join(titles[name] for name in STROKES if name in titles)
    sets = f"a panel for each of {len(strange)} sets of strangers"
    auroc = f"AUROC of {len(titles)} detectors on {len(strange)} sets, as numbers on colour."
    return {
        "auroc": _Plan(lambda: figures.auroc_table(evaluation), auroc, AUROC_CAPTION),
        "roc": _Plan(
            lambda: figures.roc(known, strange, titles),
            f"ROC curves of {curves}, {sets}.",
            ROC_CAPTION,
        ),
        "strange_p_values": _Plan(
            lambda: figures.p_values(strange),
            f"Histograms of the gate's p-values, {sets}; most mass at the left is best.",
            STRANGE_CAPTION,
        ),
        "scores": _Plan(
            lambda: figures.scores(known, strange),
            f"Histograms of the gate's score, known images against strangers, {sets}.",
            SCORES_CAPTION,
        ),
    }


def _over_known(measured: Measured) -> dict[str, _Plan]:
    calibration, known = measured.model.calibration, measured.known
    classes = measured.evaluation.classes
    marginal = calibration.mode == MARGINAL
    plans = {
        "known_p_values": _Plan(
            lambda: known_figures.p_values(calibration, known.judged),
            "Histogram of the gate's p-values of known images, against a uniform one.",
            KNOWN_CAPTION + (BAND_CAPTION if marginal else ""),
        )
    }
    if classes:
        plans["class_rates"] = _Plan(
            lambda: known_figures.class_rates(classes),
            "Share of each class with p at most .01, .05 and .10, with intervals.",
            CLASSES_CAPTION
            + _squares(calibration.mode)
            + (MOST_CAPTION if len(classes) > known_figures.MOST_CLASSES else ""),
        )
        plans["reliability"] = _Plan(
            lambda: known_figures.reliability_diagram(known.judged, known.images.labels),
            "Reliability diagram: share of hits over confidence, with intervals.",
            RELIABILITY_CAPTION,
        )
    return plans


def _squares(mode: str) -> str:
    if mode == LABEL_SHIFT_SAFE:
        return PROMISED_CAPTION
    return f"interval above alpha, which mode {mode} does not rule out within a class."


def _sheet(side: Side, number: int, *, typical: bool) -> Drawing:
    kind = "most" if typical else "least"
    group = "known images" if not number else side.name
    seen = {
        (True, True): "the images that the gate finds most like the model's own",
        (False, True): "strangers that look most like known images to the gate",
        (True, False): "known images that look strangest to the gate",
        (False, False): "strangers that look strangest to the gate",
    }[(not number, typical)]
    return Drawing(
        file=f"{SHEETS}/{number:02d}-{kind}-typical.png",
        content=contact_sheet.sheet(side, typical=typical),
        alt=f"Up to fifty thumbnails of {group}: the {kind} typical.",
        caption=f"The {kind} typical of {group}: {seen}.",
        group=group,
    )
