"""The decision plane as a drawing: classes as half discs about their means, the boundary, points.

Both directions have one scale, so that discs are round; there is nothing below the axis, since
the vertical coordinate is a distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from calibration.arrays import FloatArray
from service.cli.explain_drawing import CAPTION
from train.evaluation.style import BAND, BLUE, GROUND, INK, SOFT

#: Height of a panel over its width, and the margin about what is in it, of its width.
ASPECT, MARGIN = 0.78, 0.04

#: Inches of a letter and a line of ``CAPTION`` points.
LETTER, LINE = 0.07, 0.155

#: Middle and half sizes.
Box = tuple[float, float, float, float]


def draw_classes(
    axes: Axes, means: FloatArray, radius: float, boundary: float, points: FloatArray
) -> None:
    """Means (n, 2) with their discs and the boundary, in limits that hold ``points`` (m, 2) too."""
    for x, y in means.tolist():
        axes.add_patch(Circle((x, y), radius, fc=BAND, ec="none", alpha=0.3))
        axes.add_patch(Circle((x, y), radius, fill=False, ec=SOFT, lw=0.8))
    if math.isfinite(boundary):
        axes.axvline(boundary, color=INK, lw=1, ls="--")
    axes.plot(*means.T, "o", color=BLUE, ms=5, clip_on=False, zorder=5)
    shown = points[np.isfinite(points).all(axis=1)]
    _limit(axes, np.concatenate([means - radius, means + radius, shown]))


def _limit(axes: Axes, points: FloatArray) -> None:
    left, right = points[:, 0].min(), points[:, 0].max()
    width = max(right - left, points[:, 1].max() / ASPECT) * (1 + 2 * MARGIN) or 1.0
    middle = (left + right) / 2
    axes.set_box_aspect(ASPECT)
    axes.set_xlim(middle - width / 2, middle + width / 2)
    axes.set_ylim(0, width * ASPECT)


def place_labels(
    axes: Axes, points: FloatArray, words: Sequence[str], inches: float, avoid: FloatArray
) -> None:
    """Words beside points (n, 2) in a panel so many ``inches`` wide, where none lies on another,
    on a point, on one to ``avoid`` (m, 2) or beyond the panel, as far as there is room."""
    left, right = axes.get_xlim()
    unit = (right - left) / inches
    taken: list[Box] = [
        (x, y, 0.06 * unit, 0.06 * unit) for x, y in [*points.tolist(), *avoid.tolist()]
    ]
    for (x, y), word in zip(points.tolist(), words, strict=True):
        half = len(word) * LETTER * unit / 2
        around = _around(x, y, half, unit)
        inside = [one for one in around if left < one[0] - half and one[0] + half < right]
        free = [one for one in inside if not any(_meet(one, other) for other in taken)]
        box = (free or inside or around)[0]
        taken.append(box)
        if math.hypot(box[0] - x, box[1] - y) > half + 1.2 * LINE * unit:
            axes.plot([x, box[0]], [y, box[1]], color=SOFT, lw=0.6, zorder=4)
        axes.text(
            box[0], box[1], word, ha="center", va="center", size=CAPTION, color=INK, zorder=6,
            bbox={"fc": GROUND, "ec": "none", "alpha": 0.7, "pad": 0.5},
        )  # fmt: skip


def _around(x: float, y: float, half: float, unit: float) -> list[Box]:
    """Boxes for a label: beside its point, over and under it, then farther."""
    line, beside = LINE * unit, half + 0.12 * unit
    offsets = [(beside, 0.0), (-beside, 0.0)]
    for lines in (1, -1, 1.9, -1.9, 2.8, -2.8, 3.7, 4.6):
        offsets += [(0.0, lines * line), (beside, lines * line), (-beside, lines * line)]
    kept = [(dx, dy) for dx, dy in offsets if y + dy > line / 2 or dy == 0]
    return [(x + dx, max(y + dy, 0.6 * line), half, line / 2) for dx, dy in kept]


def _meet(a: Box, b: Box) -> bool:
    return abs(a[0] - b[0]) < a[2] + b[2] and abs(a[1] - b[1]) < a[3] + b[3]
