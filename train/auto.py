"""``--recipe auto --size N``: an architecture and settings for a user's own labelled images.

The rules are plain functions of size, colour, classes and rows, each stated where it is applied.
Measured are only their end at 28 grey pixels, and ``BETA`` on drawn shapes (``train/LOG.md``); the
others scale it, so that a folder of some thousand images trains in minutes
to hours on a CPU. Nothing here looks at pixels: what the images *show* (whether they may be
flipped, say) the user knows better.
"""

from __future__ import annotations

import io
import math
from contextlib import suppress

from PIL import Image

from model.config import Means, StageConfig
from model.image import FORMATS
from train.data import ImageRows, labelled, open_data
from train.recipes import AUTO, Recipe, RecipeError, find_recipe
from train.split import SMALL_SHARE

SMALLEST, LARGEST = 28, 224

#: Pixels a side that end on a last resolution of 5 to 8 pixels, by the number of halvings.
HALVINGS = {
    m * 2**halvings: halvings
    for halvings in (2, 3, 4, 5)
    for m in (5, 6, 7, 8)
    if SMALLEST <= m * 2**halvings <= LARGEST
}

#: Free class means take K * D parameters; above this many, low-rank ones are learned instead.
FULL_MEANS = 4_000_000

#: Optimiser steps that a run should have, as far as ``MOST_EPOCHS`` allow them.
STEPS = 3000
FEWEST_EPOCHS, MOST_EPOCHS = 8, 100

#: Rows held out for calibration where there are plenty.
HELD_OUT = 10_000

#: At every size, though L_X is per dimension, so that in nats per image the class loss weighs
#: beta * D: 784 at 28 grey pixels, 150,528 at 224 in colour. 1 is the ``fashion-mnist`` recipe's at
#: one end and in the sweep of Mackowiak et al. (CVPR 2021) at the other. Falling with D
#: (sqrt(784 / D)) was tried and dropped (``train/LOG.md``).
BETA = 1.0

GREY_MODES = ("1", "L", "LA", "La")


def recipe_for(data: str, size: int) -> Recipe:
    """The recipe for the labelled images that DATA names, at ``size`` pixels a side."""
    rows, labels = labelled(open_data(data))
    return auto_recipe(size, detect_channels(rows), len(labels), len(rows))


def recipe_of(name: str, data: str, size: int | None) -> Recipe:
    """The recipe ``name``; ``auto`` and only that has a ``size``, and is made for DATA."""
    known = None if name == AUTO else find_recipe(name)
    if (known is None) != (size is not None):
        found = "no --size" if size is None else f"--size {size}"
        raise RecipeError(f"recipe {name!r} with {found}: --size belongs to --recipe auto")
    return known or recipe_for(data, int(size or 0))


def auto_recipe(size: int, channels: int, n_classes: int, rows: int) -> Recipe:
    """The recipe for square images of ``size`` pixels, 28 to 224; ``rows`` before holding out.

    Images are worked at the largest size of ``HALVINGS`` that is not above ``size``, which
    ``expected`` tells the reader. Dropout .2 below 5,000 rows, where the class head overfits first,
    else .1; learning rate 2e-3 up to 64 pixels, else 1e-3. The other rules are with ``_stages``,
    ``BETA``, ``_means`` and ``_schedule``.
    """
    if not SMALLEST <= size <= LARGEST:
        raise RecipeError(
            f"size {size}: expected {SMALLEST} to {LARGEST} pixels; images are resized to it"
        )
    side = working_size(size)
    dim = channels * side**2
    if n_classes > dim:
        raise RecipeError(
            f"{n_classes} classes at {side} x {side} x {channels}: expected at most {dim}; "
            "give a larger --size"
        )
    means, rank = _means(n_classes, dim, channels * 4 ** HALVINGS[side])
    batch_size, epochs = _schedule(side, rows)
    return Recipe(
        name=AUTO,
        input_shape=(channels, side, side),
        stages=_stages(HALVINGS[side], channels),
        beta=BETA,
        dropout=0.2 if rows < 5000 else 0.1,
        means=means,
        means_rank=rank,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=2e-3 if side <= 64 else 1e-3,
        expected=f"not measured on this data; {_size_in_words(size, side)}",
    )


def working_size(size: int) -> int:
    """The largest usable number of pixels a side up to ``size``: 39 gives 32, 224 stays."""
    return max(side for side in HALVINGS if side <= size)


def _size_in_words(size: int, side: int) -> str:
    if side == size:
        return f"works at {side} x {side} pixels"
    larger = min(other for other in HALVINGS if other > side)
    return f"works at {side} x {side} pixels instead of {size} (the next size is {larger})"


def _stages(halvings: int, channels: int) -> tuple[StageConfig, ...]:
    """Coupling blocks by the number of halvings.

    Two (28, 32 pixels) and three (40 to 64): Haar downsampling and 3 x 3 ``conv`` subnets, most
    blocks at the lowest resolution; at most 60 and 150 million
    multiply-adds an image. Four (80 to 128) and five (160 to 224): the entry of the ``imagenet``
    recipe, then learned downsampling with ``bottleneck`` subnets, narrower and fewer; at most 0.45
    and 1 thousand million. A grey image has no second channel to couple: its entry is a Haar step.
    """
    if halvings == 2:
        return (_haar(blocks=4, width=32), _haar(blocks=8, width=64))
    if halvings == 3:
        return (
            _haar(blocks=2, width=16),
            _haar(blocks=4, width=32),
            _haar(blocks=6, width=64),
        )
    entry = (
        StageConfig(downsample="coupling", blocks=0, subnet="entry", width=16)
        if channels > 1
        else _haar(blocks=0, width=16)
    )
    pointwise = StageConfig(downsample="haar", blocks=1, subnet="pointwise", width=48)
    if halvings == 4:
        body = (_bottlenecks(2, 32, "none"), _bottlenecks(2, 64), _bottlenecks(2, 128))
        return (entry, pointwise, *body)
    body = (_bottlenecks(1, 32, "none"), _bottlenecks(1, 64), _bottlenecks(1, 96))
    return (entry, pointwise, *body, _bottlenecks(1, 128))


def _haar(*, blocks: int, width: int) -> StageConfig:
    return StageConfig(downsample="haar", blocks=blocks, width=width)


def _bottlenecks(blocks: int, width: int, downsample: str = "coupling") -> StageConfig:
    if downsample == "none":
        return StageConfig(blocks=blocks, subnet="bottleneck", width=width)
    return StageConfig(downsample="coupling", blocks=blocks, subnet="bottleneck", width=width)


def _means(n_classes: int, dim: int, pooled_channels: int) -> tuple[Means, int]:
    """Kind and rank of the class means.

    Free ones up to ``FULL_MEANS`` parameters; beyond, half as many shared directions as classes and
    at most 128, which is always fewer parameters. Low-rank means start on the pooled channels and
    so need one a class.
    """
    if n_classes * dim <= FULL_MEANS or n_classes > pooled_channels:
        return "full", 128
    return "low-rank", min(128, max(1, n_classes // 2))


def _schedule(side: int, rows: int) -> tuple[int, int]:
    """Batch size and epochs for ``rows`` of which those that are held out do not train.

    Batches of a power of two, at least 8 and at most a 20th of the training rows: up to 128 images,
    64 above 64 pixels and 32 above 128, which bounds memory. As many epochs, 8 to 100, as make
    3,000 steps.
    """
    training = max(1, rows - min(HELD_OUT, int(SMALL_SHARE * rows)))
    most = 128 if side <= 64 else 64 if side <= 128 else 32
    batch_size = min(most, max(8, 2 ** int(math.log2(max(1, training // 20)))))
    epochs = math.ceil(STEPS / math.ceil(training / batch_size))
    return batch_size, min(MOST_EPOCHS, max(FEWEST_EPOCHS, epochs))


def detect_channels(rows: ImageRows, sample: int = 64) -> int:
    """1 where ``sample`` images spread over the rows are all stored as grey, else 3.

    Goes by what the files declare, without decoding pixels: grey saved as RGB counts as colour. An
    image that cannot be read is left for decoding to report, which names its row.
    """
    step = max(1, len(rows) // sample)
    read = 0
    for i, row in enumerate(rows):
        if i % step:
            continue
        with suppress(Exception):  # whatever Pillow raises on a damaged header
            mode = Image.open(io.BytesIO(row.image), formats=FORMATS).mode
            read += 1
            if mode not in GREY_MODES and not mode.startswith("I;16"):
                return 3
    return 1 if read else 3
