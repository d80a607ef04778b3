"""Figures over the sets of strangers: ROC curves, p-values, scores, and AUROC by detector.

Each function returns a figure that is drawn and not yet written, to be called under
``style.styled``. Panels follow the order of the sets.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from calibration.arrays import FloatArray
from calibration.detection import roc_curve
from train.evaluation.judging import GATE, JudgedSet
from train.evaluation.measure import Evaluation, Side
from train.evaluation.pairs import Found
from train.evaluation.style import BLUE, GROUND, INK, LINE, ORANGE, SOFT, STROKES, blank, panels

#: Bins of p-values: each of 5%, so that the first is what a gate at 5% finds.
P_BINS = 20
SCORE_BINS = 40

#: How far beyond the known scores an axis may go, in widths of them.
REACH = 3.0

#: False alarms from which a ROC curve is drawn, and points of it.
LEAST_FPR, CURVE_POINTS = 1e-3, 120

WIDTH = 9.5


def roc(known: JudgedSet, strange: Sequence[Side], titles: Mapping[str, str]) -> Figure:
    """Share of strangers found over false alarms, on a logarithmic axis: where a gate works."""
    figure, axes = panels(len(strange), WIDTH, 2.2)
    drawn = [name for name in STROKES if name in titles]
    grid = np.geomspace(LEAST_FPR, 1, CURVE_POINTS)
    for axis, side in zip(axes, strange, strict=True):
        for name in reversed(drawn):  # the gate on top
            fpr, tpr = roc_curve(known.scores[name], side.judged.scores[name])
            heights = tpr[np.searchsorted(fpr, grid, side="right") - 1]
            stroke = STROKES[name]
            axis.plot(grid, heights, color=stroke.color, ls=stroke.dash, lw=stroke.width)
        axis.plot(grid, grid, color=LINE, lw=0.8, zorder=1)
        _logarithmic(axis)
        axis.set_ylim(-0.02, 1.02)
        axis.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        axis.set_title(_short(side.name))
    handles = [
        Line2D([], [], color=s.color, ls=s.dash, lw=s.width)
        for s in (STROKES[name] for name in drawn)
    ]
    _legend(figure, handles, [titles[name] for name in drawn])
    figure.supxlabel("share of known images flagged (logarithmic)", fontsize=9)
    figure.supylabel("share of strangers flagged", fontsize=9)
    return figure


def p_values(strange: Sequence[Side]) -> Figure:
    """The gate's p-values of each set of strangers in bins of 5%."""
    figure, axes = panels(len(strange), WIDTH, 1.75)
    edges = np.linspace(0, 1, P_BINS + 1)
    for axis, side in zip(axes, strange, strict=True):
        shares = p_shares(side.judged.decisions.p_value)
        axis.stairs(shares, edges, fill=True, color=ORANGE)
        axis.axhline(1 / P_BINS, color=INK, lw=0.9, ls="--")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axis.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        axis.set_title(_short(side.name))
        axis.text(0.96, 0.86, f"{shares[0]:.0%}", transform=axis.transAxes, ha="right")
    figure.supxlabel("p-value, in bins of 5%", fontsize=9)
    figure.supylabel("share of images", fontsize=9)
    return figure


def p_shares(p: FloatArray) -> FloatArray:
    """Share of p-values (N,) in each bin (b / B, (b + 1) / B], (B,)."""
    index = np.ceil(np.asarray(p) * P_BINS - 1e-9).astype(np.int64) - 1
    shares: FloatArray = np.bincount(index.clip(0), minlength=P_BINS) / len(p)
    return shares


def scores(known: JudgedSet, strange: Sequence[Side]) -> Figure:
    """The gate's score of known images and of each set, beyond the axis in the last bars."""
    figure, axes = panels(len(strange), WIDTH, 1.75)
    ours = known.scores[GATE]
    for axis, side in zip(axes, strange, strict=True):
        theirs = side.judged.scores[GATE]
        edges = _edges(ours, theirs)
        for values, color in ((ours, BLUE), (theirs, ORANGE)):
            counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
            filled = color == BLUE
            axis.stairs(counts, edges, fill=filled, color=color, alpha=0.55 if filled else 1)
        axis.set_yticks([])
        axis.grid(visible=False)
        axis.set_title(_short(side.name))
    handles = [Patch(color=BLUE, alpha=0.55), Line2D([], [], color=ORANGE)]
    _legend(figure, handles, ["known images (filled)", "strangers (outline)"])
    figure.supxlabel("the gate's score, higher = stranger", fontsize=9)
    figure.supylabel("share of images", fontsize=9)
    return figure


def auroc_table(evaluation: Evaluation) -> Figure:
    """AUROC of every detector on every set, means last."""
    rows = [(pair.name, pair.found) for pair in evaluation.pairs]
    rows += [(f"mean, {mean.group}", mean.found) for mean in evaluation.means]
    return heat_table(rows, evaluation.detectors, means=len(evaluation.means))


def heat_table(
    rows: Sequence[tuple[str, Sequence[Found]]], detectors: Mapping[str, str], means: int
) -> Figure:
    """AUROC of ``detectors`` (name -> words); the darker, the better, with the number on it.

    The last ``means`` of the ``rows`` are over those above them.
    """
    values = np.array([[_auroc(found, name) for name in detectors] for _, found in rows])
    figure = blank(max(4.5, 2.2 + 0.9 * len(detectors)), 1.1 + 0.27 * len(rows))
    axes = figure.add_subplot()
    image = axes.pcolormesh(values, cmap="Blues", vmin=0.5, vmax=1, ec=GROUND, lw=1.2)
    image.set_rasterized(False)
    for (i, j), value in np.ndenumerate(values):
        # not of the style's colours: these stay as they are on cells in the dark
        color = "#ffffff" if value > 0.85 else "#101010"
        axes.text(j + 0.5, i + 0.5, f"{value:.3f}", ha="center", va="center", color=color, size=8)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    words = [_wrapped(title) for title in detectors.values()]
    axes.set_xticks(np.arange(len(words)) + 0.5, words, fontsize=8)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [_short(name, 34) for name, _ in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if means:
        axes.axhline(len(rows) - means, color=SOFT, lw=1.2)
    return figure


def _auroc(found: Sequence[Found], name: str) -> float:
    return next(one.auroc for one in found if one.detector == name)


def _edges(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    """Bins over all known scores but 1 in 200 at each end, and over half of the strangers' as far
    as ``REACH`` times the width of the known ones beyond them."""
    finite = [side[np.isfinite(side)] for side in (ours, theirs)]
    low, high = np.quantile(finite[0], [0.005, 0.995]) if len(finite[0]) else (0.0, 1.0)
    width = (high - low) or 1.0
    if len(finite[1]):
        left, right = np.quantile(finite[1], [0.25, 0.75])
        ends = min(low, left), max(high, right)
        low, high = max(ends[0], low - REACH * width), min(ends[1], high + REACH * width)
    margin = 0.02 * width
    return np.linspace(low - margin, high + margin, SCORE_BINS + 1)


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlim(LEAST_FPR, 1)
    axes.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 1]))
    axes.xaxis.set_major_formatter(FixedFormatter([".1%", "1%", "10%", "100%"]))
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, handles: Sequence[Artist], words: Sequence[str]) -> None:
    figure.legend(handles, words, loc="outside upper center", ncols=min(5, len(words)))


def _short(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _wrapped(title: str) -> str:
    """Over lines that a column has room for."""
    return "\n".join(textwrap.wrap(title, 12))
