"""Images to ask about, whose answers are the same in any batch."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from service.bundle import Bundle
from tests.soak.expected import steady
from train.data import open_data


def pictures(paths: Sequence[Path], data: str | None, count: int) -> list[bytes]:
    """``count`` images of DATA, or drawn ones, that all the bundles answer steadily."""
    shape = Bundle.load(paths[0]).spec.shape
    if data is None:
        found = list(itertools.islice(_drawn(shape), 2 * count))
    else:
        found = [row.image for row in itertools.islice(open_data(data), 2 * count)]
    for path in paths:
        found = steady(path, found)
    if len(found) < count // 2:
        raise SystemExit(f"{data}: only {len(found)} images have an answer that is the same always")
    return found[:count]


def _drawn(shape: tuple[int, int, int]) -> Iterator[bytes]:
    """Soft blobs and noise, strange to every model."""
    channels, height, width = shape
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / max(height, width)
    while True:
        centre, wide = rng.uniform(0.2, 0.8, (2, channels)), rng.uniform(0.1, 0.4, channels)
        distance = (y[..., None] - centre[0]) ** 2 + (x[..., None] - centre[1]) ** 2
        pixels = 255 * np.exp(-distance / wide**2) * rng.uniform(0.5, 1)
        pixels += rng.uniform(0, 20, pixels.shape)
        out = io.BytesIO()
        Image.fromarray(np.squeeze(pixels.clip(0, 255).astype(np.uint8))).save(out, "PNG")
        yield out.getvalue()
