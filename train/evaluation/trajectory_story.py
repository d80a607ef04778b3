"""The part of a report that shows attacked images on their way: a figure an attack, and its run.

The run is the ``.npz`` of ``train.evaluation.attack_run``, which ``oodgate explain`` draws among
the classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from train.evaluation.cells import file_name
from train.evaluation.document import Block, Heading, Picture, Text
from train.evaluation.figures import WIDTH
from train.evaluation.style import BAND, GROUND, INK, ORANGE, SOFT, panels, styled, to_svg
from train.evaluation.trajectory_cell import Trajectory, TrajectoryCell

#: Panels a row, inches of one, letters of a class.
COLUMNS, HEIGHT, LETTERS = 3, 2.4, 16

#: Up to here the axis of S is linear, beyond logarithmic.
LINEAR = 1.0

#: Room about a path, as a share of its extent.
ROOM = 0.12

CAPTION = (
    "From the original (large circle) over evenly spaced steps to what the attack ends in "
    "(diamond), as 8-bit images at the served gate; filled with orange where it rejects. "
    "Horizontal: logit of the other class less that of the true one, nats; right of the thin line "
    "the other class is ahead. Vertical: S less the place of rejection, linear to 1 and "
    "logarithmic beyond; above the dashed line the image is rejected. The blue corner is where an "
    "attack wants to be: the other class, and let in."
)

WITHOUT_GATE = (
    "Images that this baseline classifies rightly, from the original (large circle) to what the "
    "attack on it ends in (diamond). Horizontal: logit of the other class less that of the true "
    "one, nats; right of the thin line, in the blue half, the other class is ahead, which is all "
    "that an attack wants here. Vertical: log of the sum of the exponentials of the logits, nats, "
    "which is low for strangers (negative energy, Liu et al., NeurIPS 2020); nothing asks for it."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """An attack that was followed; ``run``: the content of its ``.npz``."""

    cell: TrajectoryCell
    run: bytes

    @property
    def name(self) -> str:
        """Of its files, without their suffix."""
        one = self.cell
        name = one.attack.replace(" ", "-") if one.has_gate else file_name(one.attack, one.source)
        return f"attacks_{name}"


def trajectory_files(found: Sequence[Followed], labels: Sequence[str]) -> dict[str, bytes]:
    """Of each attack a figure and its run; ``labels``: names of the K classes."""
    files: dict[str, bytes] = {}
    with styled():
        for one in found:
            figure = draw_trajectories(one.cell, labels)
            files |= {f"{one.name}.svg": to_svg(figure), f"{one.name}.npz": one.run}
    return files


def trajectory_blocks(found: Sequence[Followed]) -> tuple[Block, ...]:
    """The section of the report; nothing where no attack was followed."""
    if not found:
        return ()
    return (
        Heading(text="Attacks: on their way", level=2),
        *(_picture(one) for one in found),
        Text(
            text=f"The images of each way are in {', '.join(f'{one.name}.npz' for one in found)}: "
            "oodgate explain BUNDLE IMAGE --attack RUN.npz --out FOLDER draws them in the decision "
            "plane, among the means of the classes, and with the bundle's verdicts, on images that "
            "were made against a baseline too."
        ),
    )


def draw_trajectories(cell: TrajectoryCell, labels: Sequence[str]) -> Figure:
    """A panel an image, all with one vertical axis; to be called under ``style.styled``."""
    found = cell.trajectories
    figure, axes = panels(len(found), WIDTH, HEIGHT, most=COLUMNS)
    for axis, one in zip(axes, found, strict=True):
        (_gate_axis if cell.has_gate else _evidence_axis)(axis, found)
        _panel(axis, one, one.excess if cell.has_gate else one.evidence, labels)
    figure.supxlabel("logit of the other class less that of the true one (nats)", fontsize=9)
    heights = "S less the place of rejection" if cell.has_gate else "evidence for any class (nats)"
    figure.supylabel(heights, fontsize=9)
    return figure


def _gate_axis(axis: Axes, found: Sequence[Trajectory]) -> None:
    heights = [y for one in found for y in one.excess if math.isfinite(y)]
    axis.set_yscale("symlog", linthresh=LINEAR)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.set_ylim(1.5 * min([-LINEAR, *heights]), 1.5 * max([LINEAR, *heights]))
    axis.axhline(0, color=INK, lw=1, ls="--")


def _evidence_axis(axis: Axes, found: Sequence[Trajectory]) -> None:
    axis.set_ylim(*_with_room([y for one in found for y in one.evidence]))


def _panel(axes: Axes, one: Trajectory, heights: Sequence[float], labels: Sequence[str]) -> None:
    axes.set_xlim(*_with_room([0.0, *one.margin]))
    (_, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    wanted = (0 if one.excess else top) - bottom
    axes.add_patch(Rectangle((0, bottom), right, wanted, color=BAND, lw=0, zorder=0.5))
    axes.axvline(0, color=SOFT, lw=0.8)
    axes.plot(one.margin, heights, color=INK, lw=1.1, zorder=3)
    last = len(one.margin) - 1
    for i, point in enumerate(zip(one.margin, heights, strict=True)):
        marker, size = ("D", 7) if i == last else ("o", 4 if i else 8)
        color = ORANGE if one.rejected and one.rejected[i] else GROUND
        axes.plot(*point, marker, color=color, mec=INK, mew=1, ms=size, zorder=4, clip_on=False)
    axes.set_title(f"{_short(labels[one.label])} → {_short(labels[one.predicted[last]])}")


def _with_room(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that holds all of them that are finite."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = ROOM * (high - low or 1.0)
    return low - room, high + room


def _picture(one: Followed) -> Picture:
    cell, count = one.cell, len(one.cell.trajectories)
    evaded = sum(way.evades for way in cell.trajectories)
    said = f"{evaded} of {count} images end as another class"
    if cell.has_gate:
        said, heights, caption = f"{said} that is let in", "the gate's score", CAPTION
    else:
        heights, caption = "the evidence for any class", WITHOUT_GATE
    whom = "" if cell.has_gate else f" on {cell.source}"
    return Picture(
        file=f"{one.name}.svg",
        alt=f"{cell.attack}{whom}: paths of {count} images over the margin of the other class "
        f"and {heights}; {said}.",
        caption=f"{cell.attack}{whom}: {said}. {caption}",
    )


def _short(label: str) -> str:
    return label if len(label) <= LETTERS else f"{label[: LETTERS - 1]}…"
