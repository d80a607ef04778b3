"""The comparison of ``oodgate drift`` as a figure: the test over the rows, scores, what moved."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibration.arrays import FloatArray, IntArray
from service.cli.drift import Found
from service.cli.drift_tables import looked_at
from train.evaluation.style import BLUE, INK, ORANGE, SOFT, blank, styled, to_svg

#: Bars that there is room for, points of the line, bins of the histogram.
BARS, POINTS, BINS = 12, 4000, 50

DPI = 160


def write_figure(found: Found, path: Path) -> None:
    """A .png or .svg, by the name; equal comparisons give equal bytes."""
    with styled():
        figure = draw(found)
        if path.suffix == ".svg":
            content = to_svg(figure)
        else:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=DPI)
            content = buffer.getvalue()
    path.write_bytes(content)


def draw(found: Found) -> Figure:
    """The figure, to be called under ``style.styled``."""
    figure = blank(9.5, 5.6)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 4), width_ratios=(1, 1))
    _statistic(figure.add_subplot(grid[0, :]), found)
    _scores(figure.add_subplot(grid[1, 0]), found)
    _moved(figure.add_subplot(grid[1, 1]), found)
    return figure


def _statistic(axes: Axes, found: Found) -> None:
    rows, heights = _thinned(found.stream.rows, found.scores)
    axes.plot(rows, heights, color=BLUE, lw=1)
    axes.axhline(found.threshold, color=INK, lw=1, ls="--")
    if found.alarm_at is not None:
        row = found.stream.rows[found.alarm_at - 1]
        axes.axvline(row, color=ORANGE, lw=1.4)
        axes.plot([row], [found.threshold], "s", color=ORANGE, ms=5)
        axes.set_title(f"alarm at row {row:,}")
    else:
        axes.set_title("no alarm")
    axes.set_xlabel("row of B")
    axes.set_ylabel("log statistic")
    axes.set_ylim(min(-1.0, float(np.quantile(heights, 0.01))), None)


def _thinned(rows: IntArray, heights: FloatArray) -> tuple[IntArray, FloatArray]:
    """The highest of each stretch, so that no crossing of the threshold is lost."""
    if len(rows) <= POINTS:
        return rows, heights
    starts = np.linspace(0, len(rows), POINTS, endpoint=False).astype(np.int64)
    return rows[starts], np.maximum.reduceat(heights, starts)


def _scores(axes: Axes, found: Found) -> None:
    known, seen = looked_at(found.reference, found.stream, found.on)
    seen = seen[-found.window :]
    shown = seen[np.isfinite(seen)]
    low, high = np.quantile(np.concatenate([known, shown]), [0.002, 0.998])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for values, color, dash in ((known, BLUE, "-"), (seen, ORANGE, "--")):
        counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        axes.stairs(counts, edges, color=color, ls=dash, lw=1.4)
    axes.set_title(f"{found.on}: A (full line), B (dashed)")
    axes.set_xlabel("what lies beyond is in the outermost bins")
    axes.set_ylabel("share of rows")


def _moved(axes: Axes, found: Found) -> None:
    shown = found.moved[:BARS]
    names = [one.name for one in shown]
    axes.barh(range(len(shown)), [one.effect for one in shown], color=SOFT, height=0.7)
    axes.axvline(1, color=INK, lw=1, ls="--")
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_title("what moved most")
    axes.set_xlabel("distance over that of chance (dashed)")
