"""What the figures of ``oodgate explain`` share: files, captions, images, colours, labels."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox

from calibration.arrays import FloatArray
from model.image import UInt8Array
from train.evaluation.style import BLUE, GREEN, GROUND, ORANGE, to_svg

DPI = 130

#: Decimals of a place in the figure.
PLACES = 6

#: Blue against, orange for, as in the PNGs of the service and on its page: signs stand beside them
#: for grey print.
AGAINST, FOR = BLUE, ORANGE
DIVERGING = LinearSegmentedColormap.from_list("against_for", [AGAINST, GROUND, FOR])
ONE_SIDED = LinearSegmentedColormap.from_list("nothing_much", [GROUND, GREEN])

#: Instead of what is no finite number.
NONE = "–"

#: Points of a caption, and how many of its characters go on an inch.
CAPTION, PER_INCH = 8, 15.0


def save(figure: Figure, folder: Path, name: str, formats: Iterable[str]) -> list[Path]:
    """Into ``folder``, once for each of png and svg; equal figures give equal bytes."""
    _settle(figure)
    paths = []
    for kind in formats:
        path = folder / f"{name}.{kind}"
        path.write_bytes(to_svg(figure) if kind == "svg" else _to_png(figure))
        paths.append(path)
    return paths


def _settle(figure: Figure) -> None:
    """Lay it out once, and round: the solver's last bits depend on where objects lie in memory."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.p0 = part.bbox_relative.p0.round(PLACES)
        part.bbox_relative.p1 = part.bbox_relative.p1.round(PLACES)
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(PLACES)))
    for text in [one for part in (figure, *figure.subfigs) for one in part.texts]:
        x, y = text.get_position()
        text.set_position((round(x, PLACES), round(y, PLACES)))


def _to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def padded(figure: Figure) -> None:
    """Keep what is drawn off the edges."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(w_pad=0.09, h_pad=0.06)


def wrapped(words: str, inches: float) -> str:
    """A caption over lines of that width."""
    return textwrap.fill(words, max(12, int(inches * PER_INCH)), break_long_words=False)


def caption_below(figure: Figure | SubFigure, words: str, inches: float) -> None:
    """Under all panels of a row that is so wide."""
    told = wrapped(words, 1.12 * inches)
    figure.supxlabel(told, size=CAPTION, x=0.012, ha="left", linespacing=1.35)


def caption_under(axes: Axes, label: str, words: str, inches: float) -> None:
    """Under one panel, below what its axis shows."""
    axes.set_xlabel(f"{label}\n\n{wrapped(words, inches)}", size=CAPTION, linespacing=1.35)


def percent(log_probability: float) -> str:
    """Of a log probability in nats, to what tells it from 0 and 100%."""
    if math.isnan(log_probability):
        return NONE
    probability = math.exp(min(log_probability, 0.0))
    if probability >= 0.9995:
        return ">99.9%"
    return f"{probability:.1%}" if probability >= 0.001 else "<0.1%"


def number(value: float) -> str:
    """To three digits or so, and 0 without a sign."""
    if not math.isfinite(value):
        return NONE
    told = f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"
    return "0" if told in ("-0.00", "0.00") else told.replace("-", "−")


def digits(value: float, count: int = 2) -> str:
    """A p-value and the like to so many digits."""
    return f"{value:.{count}g}" if math.isfinite(value) else NONE


def short(name: str, most: int = 22) -> str:
    """A class of any name where there is room for so many characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def picture(axes: Axes, pixels: UInt8Array) -> None:
    """uint8 (C, H, W), grey or RGB, pixel by pixel."""
    rgb = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
    axes.imshow(rgb.transpose(1, 2, 0), interpolation="nearest")
    bare(axes)


def bare(axes: Axes) -> None:
    """A frame without ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)


def grey(pixels: UInt8Array) -> FloatArray:
    """(H, W) in [0, 1] of uint8 (C, H, W), by ITU-R 601-2 luma."""
    scaled: FloatArray = pixels.astype(np.float64) / 255
    weights = np.array([0.299, 0.587, 0.114]) if len(scaled) == 3 else np.ones(1)
    luma: FloatArray = np.tensordot(weights, scaled, axes=1)
    return luma


def enlarged(places: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """(h, w) to (H, W): each pixel takes the value of the place that it lies in."""
    rows, columns = (
        np.arange(size) * count // size for size, count in zip(shape, places.shape, strict=True)
    )
    spread: FloatArray = places[rows][:, columns]
    return spread
