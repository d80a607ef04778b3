"""Changes that make strangers: their formulas, on pixels small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from model.image import UInt8Array
from train import changes
from train.changes import Change

ALL = (
    changes.unchanged,
    changes.vertical_flip,
    changes.rotation_90,
    changes.gaussian_noise,
    changes.mean_blur,
    changes.contrast,
    changes.inversion,
    changes.permutation,
    changes.constant,
    changes.uniform_noise,
    changes.shift,
)
CHANCE = (changes.gaussian_noise, changes.constant, changes.uniform_noise)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def image(channels: int = 3, height: int = 6, width: int = 4, seed: int = 5) -> UInt8Array:
    return generator(seed).integers(256, size=(channels, height, width), dtype=np.uint8)


def grey(*rows: list[int]) -> UInt8Array:
    return np.array([rows], dtype=np.uint8)


@pytest.mark.parametrize("change", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_every_change_keeps(change: Change, channels: int) -> None:
    """Type, channels and number of pixels; the image that it is given; the same for one seed."""
    pixels = image(channels)
    before = pixels.copy()
    changed = change(pixels, generator())
    assert changed.dtype == np.uint8
    assert (len(changed), changed.size) == (channels, pixels.size)
    assert np.array_equal(pixels, before)
    assert np.array_equal(change(pixels, generator()), changed)
    again = change(pixels, generator(1))
    assert np.array_equal(again, changed) == (change not in CHANCE)


@pytest.mark.parametrize(
    ("change", "given", "expected"),
    [
        (changes.unchanged, grey([1, 2], [3, 4]), grey([1, 2], [3, 4])),
        (changes.vertical_flip, grey([1, 2], [3, 4], [5, 6]), grey([5, 6], [3, 4], [1, 2])),
        (changes.rotation_90, grey([1, 2, 3], [4, 5, 6]), grey([3, 6], [2, 5], [1, 4])),
        (
            changes.contrast,
            grey([0, 1, 2, 3, 4], [5, 7, 128, 254, 255]),
            grey([0, 0, 1, 2, 2], [2, 4, 64, 127, 128]),
        ),
        (
            changes.inversion,
            grey([0, 1, 127], [128, 200, 255]),
            grey([255, 254, 128], [127, 55, 0]),
        ),
        (
            changes.shift,
            grey([1, 2], [3, 4], [5, 6], [7, 8], [9, 0]),
            grey([7, 8], [9, 0], [1, 2], [3, 4], [5, 6]),
        ),
        (changes.mean_blur, grey([0, 0, 0], [0, 9, 0], [0, 0, 0]), grey(*[[1, 1, 1]] * 3)),
        # at a corner 4 of the 9 are the corner itself: (4 * 90 + 4) // 9 and (2 * 90 + 4) // 9
        (
            changes.mean_blur,
            grey([90, 0, 0], [0, 0, 0], [0, 0, 0]),
            grey([40, 20, 0], [20, 10, 0], [0, 0, 0]),
        ),
        (changes.mean_blur, grey([5]), grey([5])),
        (changes.mean_blur, grey([255, 255]), grey([255, 255])),
    ],
)
def test_formulas(change: Change, given: UInt8Array, expected: UInt8Array) -> None:
    assert change(given, generator()).tolist() == expected.tolist()


def test_the_mean_is_rounded_to_the_nearest() -> None:
    for total in range(19):
        pixels = np.zeros((1, 5, 5), np.uint8)
        pixels[0, 2, 2] = total
        blurred = changes.mean_blur(pixels, generator())
        assert blurred[0, 2, 2] == round(total / 9)


def test_noise_is_rounded_and_clipped() -> None:
    pixels = image(3, 40, 40)
    z = generator().standard_normal(pixels.shape)
    expected = np.clip(np.round(pixels.astype(float) + 13 * z), 0, 255)
    noisy = changes.gaussian_noise(pixels, generator())
    assert np.array_equal(noisy, expected)
    assert {int(noisy.min()), int(noisy.max())} == {0, 255}


def test_one_permutation_for_all() -> None:
    """Every place is used once, by the same one of every channel and image."""
    places = np.arange(24, dtype=np.uint8).reshape(1, 6, 4)
    order = changes.permutation(places, generator(1)).ravel()
    assert sorted(order) == list(range(24))
    assert order.tolist() != list(range(24))
    pixels = image()
    moved = changes.permutation(pixels, generator(2))
    for channel in range(3):
        assert np.array_equal(moved[channel].ravel(), pixels[channel].ravel()[order])


def test_a_constant_is_one_grey_level() -> None:
    random = generator()
    levels = [changes.constant(image(), random) for _ in range(500)]
    assert all((level == level[0, 0, 0]).all() for level in levels)
    values = [int(level[0, 0, 0]) for level in levels]
    assert min(values) < 5
    assert max(values) > 250
    assert abs(np.mean(values) - 127.5) < 10


def test_uniform_noise_knows_all_levels() -> None:
    noise = changes.uniform_noise(image(3, 64, 64), generator())
    counts = np.bincount(noise.ravel(), minlength=256)
    assert counts.min() > 20
    assert counts.max() < 90
