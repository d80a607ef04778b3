"""Heatmaps over their images: which colour, how strong, how large."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from service.heatmap_png import AGAINST, FOR, SIDE, heatmap_png, image_png


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_comes_back_as_it_was(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    found = pixels_of(image_png(image)).reshape(5, 7, channels)
    np.testing.assert_array_equal(found, image.transpose(1, 2, 0))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 48), (3, 300, 250), (1, 1, 7)])
def test_an_overlay_has_the_shape_of_its_image_and_is_large_enough(
    shape: tuple[int, int, int],
) -> None:
    image = np.zeros(shape, dtype=np.uint8)
    height, width, _ = pixels_of(heatmap_png(image, np.zeros((2, 2)), 1.0)).shape
    assert height * shape[2] == width * shape[1]
    assert min(height, width) >= min(SIDE, *shape[1:])


def test_orange_is_for_blue_against_and_grey_where_nothing_is_said() -> None:
    image = np.full((1, 8, 8), 128, dtype=np.uint8)
    heatmap = np.zeros((4, 4))
    heatmap[0, 0], heatmap[3, 3] = 2.0, -2.0
    found = pixels_of(heatmap_png(image, heatmap, 2.0))
    for corner, colour in ((found[0, 0], FOR), (found[-1, -1], AGAINST)):
        assert np.abs(corner - colour).max() < 40
    assert np.ptp(found[0, -1]) == 0


def test_brightness_is_that_of_the_image() -> None:
    image = np.zeros((1, 8, 8), dtype=np.uint8)
    image[..., 4:] = 255
    found = pixels_of(heatmap_png(image, np.zeros((2, 2)), 1.0))
    assert found[0, -1, 0] > found[0, 0, 0] + 50


def test_what_is_beyond_the_scale_is_full_colour() -> None:
    image = np.zeros((1, 8, 8), dtype=np.uint8)
    at, beyond = (pixels_of(heatmap_png(image, np.full((2, 2), v), 1.0)) for v in (1.0, 50.0))
    np.testing.assert_array_equal(at, beyond)
