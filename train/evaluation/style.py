"""How figures look: colours that differ in lightness, dashes beside them, and light or dark.

Colours are Okabe and Ito's, so colour-blind readers and grey print lose nothing. Files are drawn
on white; in a page each colour has a lighter partner that takes its place on a dark ground.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

GROUND, INK, SOFT, LINE = "#fefefe", "#1b1f24", "#57606a", "#d5dae0"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#00876a", "#a8548a"
BAND = "#cfe0ee"

#: What stands in for a colour on a dark ground.
DARK = {
    GROUND: "#14181d",
    INK: "#e6e9ed",
    SOFT: "#a3adb8",
    LINE: "#343c46",
    BLUE: "#56b4e9",
    ORANGE: "#ff8f45",
    GREEN: "#2fc79f",
    PURPLE: "#e19cc7",
    BAND: "#27455c",
}


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """A line by colour, dash and width."""

    color: str
    dash: str | tuple[int, tuple[float, ...]]
    width: float


#: Detectors that curves are drawn of, by name.
STROKES: Mapping[str, Stroke] = {
    "gate": Stroke(color=INK, dash="-", width=1.9),
    "input_statistics": Stroke(color=BLUE, dash="--", width=1.3),
    "flow_statistics": Stroke(color=ORANGE, dash=(0, (5, 1.5, 1, 1.5)), width=1.3),
    "typicality": Stroke(color=GREEN, dash=":", width=1.5),
    "log_prob": Stroke(color=PURPLE, dash=(0, (1, 3)), width=1.5),
}

_SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.facecolor": GROUND,
    "figure.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a class may be called anything
    "svg.hashsalt": "oodgate",
    "svg.fonttype": "path",
}


def styled() -> AbstractContextManager[None]:
    """The settings under which everything is drawn and saved, as a context."""
    return mpl.rc_context(_SETTINGS)


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches; no state of pyplot is touched."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, width: float, height: float, most: int = 4) -> tuple[Figure, list[Axes]]:
    """A grid of ``count`` panels in rows of ``most``, each of ``height`` inches."""
    columns = min(count, most)
    lines = -(-count // columns)
    figure = blank(width if columns > 1 else width / 2, lines * height + 0.5)
    return figure, [figure.add_subplot(lines, columns, i + 1) for i in range(count)]


def to_svg(figure: Figure) -> bytes:
    """Equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def svg_width(svg: bytes) -> float:
    """Width of a drawing of ``to_svg`` in points; 0 where it says none."""
    found = re.search(rb'<svg[^>]*\bwidth="([0-9.]+)pt"', svg)
    return float(found[1]) if found else 0.0


def adaptive_svg(svg: bytes) -> bytes:
    """The drawing with colours that follow the reader's choice of light or dark."""
    text = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", svg.decode(), flags=re.DOTALL)
    light = ";".join(f"--c{i}:{color}" for i, color in enumerate(DARK))
    dark = ";".join(f"--c{i}:{color}" for i, color in enumerate(DARK.values()))
    for i, color in enumerate(DARK):
        text = text.replace(color, f"var(--c{i})")
    rule = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return re.sub(r"(<svg[^>]*>)", rf"\1<style>{rule}</style>", text, count=1).encode()
