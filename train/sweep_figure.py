"""A sweep as a figure: accuracy against density, and both losses over beta.

The two ends of the trade-off are lines: the density that a flow without labels reaches (beta 0),
and the accuracy of a classifier without a density (the ResNet). Markers, dashes and words tell
things apart, so that grey print and colour-blind readers lose nothing. Needs matplotlib; no state
of pyplot is touched.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from model.checkpoint import write_atomic
from train.sweep_measure import Figures
from train.sweep_report import Sweep
from train.sweep_runs import beta_word

PNG_FILE, SVG_FILE = "sweep.png", "sweep.svg"

#: Okabe and Ito's colours, of different lightness: blue, vermilion, and grey for limits.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#595959"

#: An axis whose values span more than this factor is logarithmic.
LINEAR_SPAN = 8.0


def write_figure(sweep: Sweep, out: Path) -> Path:
    """Write ``sweep.png`` and ``sweep.svg``; equal figures give equal bytes. Returns the first."""
    figure = draw(sweep)
    with mpl.rc_context({"svg.hashsalt": "oodgate"}):
        for name in (PNG_FILE, SVG_FILE):
            buffer = io.BytesIO()
            kind = name.rpartition(".")[2]
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
            write_atomic(out / name, buffer.getvalue())
    return out / PNG_FILE


def draw(sweep: Sweep) -> Figure:
    """The figure, not yet written."""
    flows = [f for f in sweep.figures if f.beta is not None and math.isfinite(f.bits_per_dim or 0)]
    baseline = next((f.accuracy for f in sweep.figures if f.beta is None), None)
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    trade_off = figure.add_subplot(grid[:, 0])
    _trade_off(trade_off, flows, baseline)
    upper, lower = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    _over_beta(upper, flows, [f.l_x for f in flows], "$L_X$ (nats per dimension)", BLUE, "o-")
    _over_beta(lower, flows, [f.l_y for f in flows], "$L_Y$ (nats per image)", ORANGE, "s--")
    upper.set_title("Density loss and class loss over β (lower is better)", fontsize=10)
    lower.set_xlabel("β, the weight of the class loss (evenly spaced)")
    figure.suptitle(f"What the class loss buys and what it costs: {sweep.base.recipe}")
    figure.supxlabel(textwrap.fill(_caption(sweep), 130), fontsize=8.5)
    return figure


def _caption(sweep: Sweep) -> str:
    base = sweep.base
    return (
        f"Each point is one run of {base.epochs} epochs on {base.data}, seed {base.seed}, measured "
        f"on {len(sweep.rows.test):,} rows of {sweep.test} that no run has seen. Up is a better "
        "classifier, left a better density. β = 0 learns without labels, so it is a line: the "
        "density alone."
    )


def _trade_off(axes: Axes, flows: Sequence[Figures], baseline: float | None) -> None:
    """Accuracy against bits/dim along beta, with both limits."""
    drawn = [f for f in flows if f.beta]
    bits = [f.bits_per_dim or 0.0 for f in drawn]
    axes.plot(bits, [f.accuracy for f in drawn], "o-", color=BLUE, linewidth=1.2)
    for f in drawn:
        _name_point(axes, f)
    limits = [f.bits_per_dim or 0.0 for f in flows if f.beta == 0]
    for x in limits:
        _limit(axes, "x", x, "β = 0: density alone")
    if baseline is not None:
        _limit(axes, "y", baseline, "ResNet: classes alone")
    _scale(axes, "x", bits + limits)
    axes.margins(0.1, 0.12)
    axes.set_xlabel("density on test rows (bits per dimension)")
    axes.set_ylabel("accuracy on test rows (%)")
    axes.set_title("Accuracy against density, each point with its β", fontsize=10)
    axes.grid(alpha=0.25)


def _limit(axes: Axes, name: str, value: float, words: str) -> None:
    """A line across the axes at a value of one of them, with words on it at its far end."""
    if name == "x":
        axes.axvline(value, color=GREY, linestyle=":")
        place, transform = (value, 0.02), axes.get_xaxis_transform()
        shift, turn, side, height = (-2, 0), 90.0, "right", "bottom"
    else:
        axes.axhline(value, color=GREY, linestyle="--")
        place, transform = (0.98, value), axes.get_yaxis_transform()
        shift, turn, side, height = (0, 3), 0.0, "right", "bottom"
    axes.annotate(
        words,
        place,
        xycoords=transform,
        xytext=shift,
        textcoords="offset points",
        rotation=turn,
        ha=side,
        va=height,
        color=GREY,
        fontsize=9,
    )


def _name_point(axes: Axes, f: Figures) -> None:
    """Its beta, below on the right: the line comes from the left and seldom falls."""
    axes.annotate(
        _beta_word(f.beta or 0.0),
        (f.bits_per_dim or 0.0, f.accuracy),
        xytext=(4, -3),
        textcoords="offset points",
        ha="left",
        va="top",
        fontsize=9,
    )


def _over_beta(
    axes: Axes,
    flows: Sequence[Figures],
    values: Sequence[float | None],
    label: str,
    color: str,
    style: str,
) -> None:
    """One loss over beta, one place a beta."""
    heights = [math.nan if value is None else value for value in values]
    axes.plot(range(len(flows)), heights, style, color=color, linewidth=1.2)
    axes.set_xticks(range(len(flows)), [_beta_word(f.beta or 0.0) for f in flows])
    _scale(axes, "y", heights)
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)


def _scale(axes: Axes, name: str, values: Sequence[float]) -> None:
    """A logarithmic axis where the values are positive and span much, with plain numbers."""
    if not values or min(values) <= 0 or max(values) / min(values) < LINEAR_SPAN:
        return
    (axes.set_xscale if name == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _beta_word(beta: float) -> str:
    return "∞" if math.isinf(beta) else beta_word(beta)
