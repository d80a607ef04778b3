"""Fifty images of a set on one sheet: those that the gate finds most, or least, typical."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from model.image import UInt8Array
from train.evaluation.judging import GATE
from train.evaluation.measure import Side

ROWS, COLUMNS = 5, 10

#: Pixels a side that a thumbnail is brought near to, and pixels between two.
THUMBNAIL, GAP = 64, 4

#: Grey between thumbnails, told from black and from white.
GROUND = 128


def sheet(side: Side, *, typical: bool) -> bytes:
    """A PNG of the images in order, from the left and from the top; ties keep the set's order."""
    scores = side.judged.scores[GATE]
    order = np.argsort(scores if typical else -scores, kind="stable")[: ROWS * COLUMNS]
    thumbnails = [_thumbnail(side.images.pixels[i]) for i in order]
    height, width = thumbnails[0].shape[:2]
    lines = -(-len(thumbnails) // COLUMNS)
    canvas = np.full(
        (lines * (height + GAP) + GAP, COLUMNS * (width + GAP) + GAP, 3), GROUND, np.uint8
    )
    for i, thumbnail in enumerate(thumbnails):
        y, x = (GAP + (i // COLUMNS) * (height + GAP), GAP + (i % COLUMNS) * (width + GAP))
        canvas[y : y + height, x : x + width] = thumbnail
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _thumbnail(pixels: UInt8Array) -> UInt8Array:
    """(C, H, W) to (h, w, 3): whole multiples of small images, large ones made smaller."""
    colour = pixels.transpose(1, 2, 0)
    if colour.shape[2] == 1:
        colour = colour.repeat(3, axis=2)
    longest = max(colour.shape[:2])
    times = round(THUMBNAIL / longest)
    if times >= 1:
        return colour.repeat(times, axis=0).repeat(times, axis=1)
    height, width = (max(1, round(side * THUMBNAIL / longest)) for side in colour.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(colour))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
