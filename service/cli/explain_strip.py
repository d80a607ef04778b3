"""The last row of an explanation: what would have to change for another class."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from calibration.arrays import FloatArray
from service.cli.explain_drawing import (
    CAPTION,
    DIVERGING,
    NONE,
    bare,
    caption_below,
    percent,
    picture,
    short,
)
from service.cli.explain_way import Way
from train.evaluation.style import ORANGE

#: Contrast below which a prototype would be seen as even, and is stretched.
EVEN = 0.25

#: One below which it is rounding.
FLAT = 1e-6


def draw_strip(figure: SubFigure, way: Way, width: float) -> None:
    """Prototype, the image on its way with what has changed, prototype; ``width`` in inches."""
    count = len(way.images)
    axes = figure.subplots(2, count + 2)
    for column, label, x in zip((0, -1), (way.source, way.target), way.prototypes, strict=True):
        _prototype(axes[0, column], axes[1, column], label, x)
    changes = way.images.astype(np.float64).mean(1) - way.images[0].astype(np.float64).mean(0)
    scale = float(np.abs(changes).max()) or 1.0
    for i in range(count):
        picture(axes[0, i + 1], way.images[i])
        axes[0, i + 1].set_title(_title(i, way), size=CAPTION)
        axes[1, i + 1].imshow(changes[i], cmap=DIVERGING, vmin=-scale, vmax=scale)
        bare(axes[1, i + 1])
        verdict = way.verdicts[i]
        word = f"p {verdict.p_value:.2g}" + (", rejected" if verdict.rejected else "")
        axes[1, i + 1].set_xlabel(word, size=CAPTION)
    for spine in axes[0, 1].spines.values():
        spine.set(color=ORANGE, linewidth=2)
    caption_below(figure, _words(way, scale), width)


def _prototype(axes: Axes, below: Axes, label: str, x: FloatArray) -> None:
    low, high = float(x.min()), float(x.max())
    stretched = high - low < EVEN
    scaled = (x - low) / ((high - low) or 1.0) if stretched else x.clip(0, 1)
    picture(axes, (scaled * 255).round().astype(np.uint8))
    axes.set_title(short(label, 14), size=CAPTION, weight="bold")
    word = f"prototype,\ncontrast {_gain(high - low)}" if stretched else "prototype"
    below.set_axis_off()
    below.text(0.5, 1.0, word, ha="center", va="top", size=CAPTION, transform=below.transAxes)


def _gain(spread: float) -> str:
    """How many times the contrast is stretched; of an even image nothing is."""
    return f"x {1 / spread:,.0f}" if spread > FLAT else NONE


def _title(i: int, way: Way) -> str:
    share = percent(math.log(max(float(way.shares[i]), 1e-300)))
    return f"this image: {share}" if i == 0 else share


def _words(way: Way, scale: float) -> str:
    return (
        f"What would make it {way.target}: the image moved straight from {way.source} to "
        f"{way.target} with all else kept, and below it what is brighter (orange) or darker (blue) "
        f"than before, full colour at {scale:.0f} of 255 grey levels, and the gate's p-value. "
        f"Percentages: the part of {way.target} in the posterior of the two. Prototypes: the "
        "images of the classes' means, which need not look like any image."
    )
