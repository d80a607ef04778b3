"""The first row of an explanation: the image, heatmaps of classes over it, and salience."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import SubFigure
from matplotlib.patheffects import withStroke

from calibration.arrays import FloatArray
from model.image import UInt8Array
from service.cli.explain_drawing import (
    CAPTION,
    DIVERGING,
    ONE_SIDED,
    bare,
    caption_below,
    enlarged,
    grey,
    number,
    percent,
    picture,
    short,
)
from service.cli.explain_subject import BaselineMap, Subject
from train.evaluation.style import GROUND, INK

#: Places a side up to which those of much weight get a sign.
SIGNED = 16

#: Share of the scale from which a place has much weight, and of the image's contrast under a map.
MUCH, FAINT = 0.35, 0.35


def draw_maps(figure: SubFigure, subject: Subject, width: float) -> None:
    """All panels of the row; ``width`` in inches."""
    extra = 1 if subject.baseline else 0
    count = 2 + len(subject.shown) + extra
    axes = [figure.add_subplot(1, count, i + 1) for i in range(count)]
    pixels = subject.found.pixels
    _image(axes[0], pixels)
    _heatmaps(figure, axes[1 : count - 1 - extra], subject)
    if subject.baseline is not None:
        _baseline(axes[-2], subject.baseline, subject.labels[subject.shown[0]], pixels)
    _salience(figure, axes[-1], subject.found.salience, pixels)
    caption_below(figure, _words(subject), width)


def _image(axes: Axes, pixels: UInt8Array) -> None:
    picture(axes, pixels)
    channels, height, width = pixels.shape
    axes.set_title("what the model sees")
    axes.set_xlabel(f"{height} x {width}, {'grey' if channels == 1 else 'RGB'}", size=CAPTION)


def _heatmaps(figure: SubFigure, axes: list[Axes], subject: Subject) -> None:
    maps = np.nan_to_num(subject.found.heatmaps[list(subject.shown)])
    scale = float(np.abs(maps).max()) or 1.0
    norm = Normalize(-scale, scale)
    for axis, places, k in zip(axes, maps, subject.shown, strict=True):
        _over(axis, subject.found.pixels, places, norm, DIVERGING)
        _signs(axis, subject.found.pixels, places, scale)
        log_posterior = float(subject.found.heatmaps[k].sum())
        axis.set_title(f"{short(subject.labels[k])} {percent(log_posterior)}")
        axis.set_xlabel(f"log posterior {number(log_posterior)} nats", size=CAPTION)
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("against   nats   for", size=CAPTION)


def _baseline(axes: Axes, baseline: BaselineMap, label: str, pixels: UInt8Array) -> None:
    scale = float(baseline.places.max()) or 1.0
    _over(axes, pixels, baseline.places, Normalize(0, scale), ONE_SIDED)
    axes.set_title(f"Grad-CAM, {short(label, 16)}")
    share = percent(math.log(max(baseline.probability, 1e-300)))
    axes.set_xlabel(f"the baseline gives it {share}", size=CAPTION)


def _salience(figure: SubFigure, axes: Axes, places: FloatArray, pixels: UInt8Array) -> None:
    shown = enlarged(np.nan_to_num(places), _shape(pixels))
    drawn = axes.imshow(shown, cmap="cividis", interpolation="nearest")
    bare(axes)
    axes.set_title("salience")
    axes.set_xlabel(f"log p(x) {number(float(places.sum()))} nats", size=CAPTION)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.03)
    bar.set_label("nats", size=CAPTION)


def _over(
    axes: Axes, pixels: UInt8Array, places: FloatArray, norm: Normalize, colours: Colormap
) -> None:
    """A map over the faint image, whose grey a full colour hides."""
    shape = _shape(pixels)
    base = 1 - FAINT * (1 - grey(pixels))[:, :, None]
    axes.imshow(base * colours(norm(enlarged(places, shape)))[:, :, :3], interpolation="nearest")
    bare(axes)


def _signs(axes: Axes, pixels: UInt8Array, places: FloatArray, scale: float) -> None:
    """+ and - on the places of much weight, which colours alone do not tell in grey print."""
    if max(places.shape) > SIGNED:
        return
    steps = [size / count for size, count in zip(_shape(pixels), places.shape, strict=True)]
    for (i, j), value in np.ndenumerate(places):
        if abs(value) >= MUCH * scale:
            x, y = (j + 0.5) * steps[1] - 0.5, (i + 0.5) * steps[0] - 0.5
            sign = "+" if value > 0 else "−"
            axes.text(
                x, y, sign, ha="center", va="center", size=9, color=INK, weight="bold",
                path_effects=[withStroke(linewidth=1.6, foreground=GROUND)],
            )  # fmt: skip


def _words(subject: Subject) -> str:
    height, width = subject.found.salience.shape
    words = (
        f"Heatmaps: each of the {height} x {width} places of the model's last resolution speaks "
        "for a class (orange, +) or against it (blue, −), held against an average of all classes "
        f"weighed by their odds (contrast {subject.contrast:.2g}). One scale for all; the "
        "places of a map add up to the log of the class's posterior. Salience: the places add up "
        "to log p(x), dark ones are improbable to the model."
    )
    if subject.baseline is not None:
        words += (
            " Grad-CAM: where a ResNet sees the same class, without a unit and never against it."
        )
    return words


def _shape(pixels: UInt8Array) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[2]
