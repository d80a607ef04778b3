"""The second row of an explanation: the decision plane, S among the reference, the evidence."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from calibration.evidence import Evidence
from calibration.modes import LABEL_SHIFT_SAFE, PREDICTED_CLASS
from model.decision_plane import MASS
from service.cli.explain_drawing import CAPTION, caption_under, digits, number, short
from service.cli.explain_plane import ASPECT, draw_classes, place_labels
from service.cli.explain_subject import Subject
from service.explainer import Explained
from service.verdict import Verdict
from train.evaluation.style import BLUE, GROUND, INK, ORANGE, SOFT

#: Bars of the evidence.
BARS = 8

_VIEWS = {
    "joint": "all statistics together",
    "within": "those within the class",
    "ambiguity": "ambiguity",
    "distortion": "likeness to distorted images",
}


def draw_gate(figure: SubFigure, subject: Subject, width: float) -> None:
    """The three panels; ``width`` in inches."""
    panel = width / 3 - 0.6
    axes = [figure.add_subplot(1, 3, i + 1) for i in range(3)]
    _plane(axes[0], subject, panel)
    _score(axes[1], subject.found, panel)
    _evidence(axes[2], subject.found.evidence, panel)
    for axis in axes[1:]:
        axis.set_box_aspect(ASPECT)


def _plane(axes: Axes, subject: Subject, inches: float) -> None:
    plane = subject.found.plane
    means, point = np.array(plane.means), np.array([plane.point])
    draw_classes(axes, means, plane.radius, plane.boundary, point)
    axes.plot(*plane.point, "D", color=ORANGE, mec=INK, ms=8, clip_on=False, zorder=7)
    labels = [short(subject.labels[k], 18) for k in plane.classes]
    marks, words = np.concatenate([point, means]), ["this image", *labels]
    place_labels(axes, marks, words, inches, avoid=point)
    axes.set_title("decision plane")
    axes.set_ylabel("distance from that line, std", size=CAPTION)
    told = (
        f"Dots: means of the {len(labels)} most probable classes; each circle holds at least "
        f"{MASS:.0%} of its class. Dashed: where the first two are equally probable."
    )
    if not np.isfinite(point).all():
        told += " This image has no finite place among them."
    ends = " to ".join(labels[:2])
    caption_under(axes, f"along the line from {ends}, std", told, inches)


def _score(axes: Axes, found: Explained, inches: float) -> None:
    verdict, histogram = found.verdict, found.reference
    edges, top = histogram.edges, 1.3 * float(histogram.counts.max())
    axes.stairs(histogram.counts, edges, fill=True, color=BLUE, alpha=0.55)
    margin = 0.04 * (edges[-1] - edges[0])
    axes.set_xlim(edges[0] - margin, edges[-1] + margin)
    axes.set_ylim(0, top)
    if math.isfinite(histogram.rejected_above):
        axes.axvline(histogram.rejected_above, color=INK, lw=1, ls="--")
    _mark(axes, verdict.score, (float(edges[0]), float(edges[-1])), 0.86 * top)
    axes.set_title(f"p-value {verdict.p_value:.3g}: {'rejected' if verdict.rejected else 'kept'}")
    axes.set_ylabel("reference images", size=CAPTION)
    words = (
        f"{_ranked(verdict, int(histogram.counts.sum()))} What lies beyond is in the outermost "
        f"bars. Right of the dashed line the p-value is {verdict.threshold:.3g} or less: rejected. "
        "The diamond is this image."
    )
    caption_under(axes, "S, all statistics as one score, higher = stranger", words, inches)


def _ranked(verdict: Verdict, count: int) -> str:
    """Whose S the ``count`` images of the histogram are, and how they make the p-value."""
    if verdict.mode == PREDICTED_CLASS:
        label = short(verdict.class_label, 18)
        return f"S of the {count:,} held-out images that are predicted as {label}."
    if verdict.mode == LABEL_SHIFT_SAFE:
        return (
            f"S of {count:,} held-out images of all classes. The p-value is the largest of those "
            f"among each class's images: here among the {verdict.reference_size:,} of the class "
            "that it is least strange to."
        )
    return f"S of {count:,} held-out images."


def _mark(axes: Axes, score: float, ends: tuple[float, float], height: float) -> None:
    """S of the image, at the edge where it lies beyond."""
    known = score if math.isfinite(score) else math.inf  # what is no number ranks as the strangest
    place = min(max(known, ends[0]), ends[1])
    beyond = "" if place == known else ", beyond the axis"
    axes.plot([place, place], [0, height], color=ORANGE, lw=1.6)
    axes.plot([place], [height], "D", color=ORANGE, mec=INK, ms=8)
    side = "right" if place > sum(ends) / 2 else "left"
    axes.text(
        place, 1.06 * height, f"S {number(score)}{beyond}", ha=side, va="bottom", size=CAPTION,
        bbox={"fc": GROUND, "ec": "none", "pad": 0.6},
    )  # fmt: skip


def _evidence(axes: Axes, evidence: Evidence, inches: float) -> None:
    shown = evidence.statistics[:BARS]
    known = all(math.isfinite(one.contribution) for one in shown)
    values = np.array([one.contribution if known else one.normal_score for one in shown])
    bars = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    axes.barh(range(len(shown)), bars, color=ORANGE if known else SOFT, height=0.65)
    axes.set_yticks(range(len(shown)), [f"{one.name}  (p {digits(one.p_value)})" for one in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(visible=False, axis="y")
    axes.set_title("what made S")
    label = "adds to the surprise, nats" if known else "normal score"
    caption_under(axes, label, _told(evidence, len(shown), known), inches)


def _told(evidence: Evidence, shown: int, known: bool) -> str:
    if not known:
        return (
            f"The {shown} statistics farthest from the middle of their distribution. In brackets "
            "each one's own p-value, which is no test."
        )
    total = sum(one.contribution for one in evidence.statistics)
    views = ", ".join(f"{_VIEWS[name]} {share:.0%}" for name, share in evidence.views.items())
    return (
        f"The {shown} of {len(evidence.statistics)} statistics that add most to the surprise of "
        f"{total:.1f} nats, in brackets each one's own p-value, which is no test. Views in S: "
        f"{views}."
    )
