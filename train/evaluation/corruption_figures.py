"""Figures of the suite ``corruptions``, and a sheet of one image under all of them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from calibration.detection import Rate
from model.image import UInt8Array
from train.evaluation.corruption_summary import AtSeverity, Corruptions
from train.evaluation.figures import heat_table
from train.evaluation.style import BLUE, GREEN, INK, ORANGE, PURPLE, blank

#: Pixels a side of a thumbnail, between two, and of the words beside and above them.
THUMBNAIL, GAP, BESIDE, ABOVE = 64, 4, 130, 22

#: Lines of baselines, in their order.
_THEIRS = ((GREEN, ":"), (PURPLE, "-."), (INK, "--"))


def auroc(found: Corruptions) -> Figure:
    """AUROC of every detector on each corruption, and the mean."""
    rows = [(mean.group, mean.found) for mean in found.by_corruption]
    rows.append((f"mean of {len(rows)}", found.mean.found))
    return heat_table(rows, found.detectors, means=1)


def accuracy(found: Corruptions) -> Figure:
    """Accuracy over severity of all and of the accepted, baselines beside; share rejected."""
    figure = blank(8.5, 3.1)
    left, right = figure.subplots(1, 2)
    rows = found.by_severity
    _line(left, rows, [row.accuracy for row in rows], BLUE, "--", "all", -0.06)
    _line(left, rows, [row.accuracy_accepted for row in rows], ORANGE, "-", "accepted", 0.06)
    for i, name in enumerate(rows[0].baselines):
        color, dash = _THEIRS[i % len(_THEIRS)]
        _line(left, rows, [row.baselines[name] for row in rows], color, dash, name, 0.0)
    _line(right, rows, [row.rejected for row in rows], ORANGE, "-", "rejected", 0.0)
    left.set_ylabel("accuracy")
    left.legend()
    right.set_ylabel("share rejected")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        axes.set_xlabel("severity, 0: not corrupted")
        axes.set_xticks([row.severity for row in rows])
    return figure


def _line(
    axes: Axes,
    rows: Sequence[AtSeverity],
    rates: Sequence[Rate],
    color: str,
    dash: str,
    label: str,
    aside: float,
) -> None:
    """Shares with their intervals; nothing where there is no row."""
    drawn = [(row.severity + aside, rate) for row, rate in zip(rows, rates, strict=True)]
    known = [(x, rate.share, rate.low, rate.high) for x, rate in drawn if rate.share is not None]
    x, share, low, high = np.array(known).reshape(-1, 4).T
    axes.plot(x, share, dash, color=color, marker="o", ms=4, label=label)
    axes.vlines(x, low, high, color=color, lw=1.2)


def sheet(rows: Sequence[tuple[str, UInt8Array]], heads: Sequence[str]) -> bytes:
    """A PNG: a row a corruption with its name, images (n, C, H, W) of it below ``heads``."""
    step = THUMBNAIL + GAP
    size = (BESIDE + step * len(heads) + GAP, ABOVE + step * len(rows) + GAP)
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for j, head in enumerate(heads):
        draw.text((BESIDE + j * step + GAP, GAP), head, fill="black", font=font)
    for i, (name, images) in enumerate(rows):
        top = ABOVE + i * step
        draw.text((GAP, top + THUMBNAIL // 2 - 6), name, fill="black", font=font)
        for j, pixels in enumerate(images):
            canvas.paste(_thumbnail(pixels), (BESIDE + j * step, top))
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _thumbnail(pixels: UInt8Array) -> Image.Image:
    """(C, H, W) within a square: small images keep hard edges."""
    colour = pixels.transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], 3))))
    times = THUMBNAIL / max(image.size)
    size = tuple(max(1, round(side * times)) for side in image.size)
    how = Image.Resampling.NEAREST if times > 1 else Image.Resampling.LANCZOS
    return image.resize((size[0], size[1]), how)
