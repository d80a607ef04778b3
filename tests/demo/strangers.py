"""Things that are not digits, in the digits' own encoding: 8-bit grey, PNG.

The service brings them to 8 x 8 pixels and its 17 grey levels, digits and strangers alike, so no
stranger is told by how it is stored.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_sample_images

from model.image import InputSpec, decode
from train.data import open_data

Grey = npt.NDArray[np.uint8]

SEED = 0
COUNT = 200
PATCH = 64
SPEC = InputSpec(shape=(1, 8, 8))


def png(grey: Grey) -> bytes:
    """One grey image (height, width) as a file."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    return buffer.getvalue()


def held_out_digits() -> tuple[Grey, list[int]]:
    """The test split: (360, 8, 8) and its labels; never used for training or calibration."""
    rows = list(open_data("digits:test"))
    grey = np.stack([decode(row.image, SPEC)[0] for row in rows])
    return grey, [row.label if row.label is not None else -1 for row in rows]


def photograph_patches() -> Grey:
    """Random square patches of scikit-learn's two photographs, in grey: (200, 64, 64)."""
    random = np.random.default_rng(SEED)
    photographs = [
        np.asarray(Image.fromarray(image).convert("L")) for image in load_sample_images().images
    ]
    patches = []
    for i in range(COUNT):
        photograph = photographs[i % len(photographs)]
        y, x = (int(random.integers(0, side - PATCH)) for side in photograph.shape)
        patches.append(photograph[y : y + PATCH, x : x + PATCH])
    return np.stack(patches)


def noise() -> Grey:
    """Uniform noise on the 17 levels."""
    levels = np.random.default_rng(SEED).integers(0, 17, (COUNT, 8, 8))
    grey: Grey = np.rint(levels * (255 / 16)).astype(np.uint8)
    return grey


def strangers(digits: Grey) -> dict[str, Grey]:
    """Every kind of stranger by name."""
    some = digits[:COUNT]
    made: dict[str, Callable[[], Grey]] = {
        "photograph patches": photograph_patches,
        "uniform noise": noise,
        "digits upside down": lambda: some[:, ::-1, :],
        "digits inverted": lambda: 255 - some,
    }
    return {name: np.ascontiguousarray(make()) for name, make in made.items()}
