"""Deletion and insertion on a classifier whose posterior depends on known pixels."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from calibration.arrays import FloatArray
from train.evaluation.removal import (
    Probability,
    area,
    blank,
    blurred,
    curves,
    deletion,
    insertion,
    pixel_order,
)

SIZE, STEPS = 16, 16
COUNT = 12

Score = Callable[[Tensor, Tensor, Tensor, Probability, int], Tensor]


@pytest.fixture
def places() -> Tensor:
    """For each image a block of places of an 8 x 8 map, on which its posterior depends."""
    made = torch.zeros(COUNT, 8, 8)
    for i in range(COUNT):
        made[i, i % 5 : i % 5 + 3, i // 3 : i // 3 + 3] = 1
    return made


@pytest.fixture
def images() -> Tensor:
    """Stripes a pixel wide, so that blurring takes them away."""
    stripes = torch.arange(SIZE) % 2 * 200 + 55
    return stripes.expand(COUNT, 1, SIZE, SIZE).to(torch.uint8).contiguous()


class Knowing:
    """p(class 1) is the share of the pixels under ``places`` that are as in ``images``."""

    def __init__(self, places: Tensor, images: Tensor) -> None:
        self.images = images
        self.pixels = places.repeat_interleave(2, 1).repeat_interleave(2, 2)

    def __call__(self, shown: Tensor) -> FloatArray:
        alike = (shown == self.images).all(1) * self.pixels
        share = (alike.sum((1, 2)) / self.pixels.sum((1, 2))).double().numpy()
        return np.stack([1 - share, share], axis=1)


@pytest.mark.parametrize(("score", "sign"), [(deletion, -1), (insertion, 1)])
def test_a_perfect_map_beats_random_ones_and_these_the_inverted(
    score: Score, sign: int, places: Tensor, images: Tensor
) -> None:
    classes = torch.ones(COUNT, dtype=torch.int64)
    random = torch.rand(places.shape, generator=torch.Generator().manual_seed(0))
    perfect, chance, inverted = (
        sign * score(maps, images, classes, Knowing(places, images), STEPS)
        for maps in (places, random, -places)
    )
    assert (perfect > chance).all()
    assert (chance > inverted).all()


def test_areas_of_a_perfect_map_in_closed_form(places: Tensor, images: Tensor) -> None:
    """All pixels of a place are exchanged before others: the posterior falls along a line."""
    classes, knowing = torch.ones(COUNT, dtype=torch.int64), Knowing(places, images)
    # every pixel by itself, in the map's own resolution: nothing is interpolated
    maps, pixels = knowing.pixels, SIZE * SIZE
    share = knowing.pixels.sum((1, 2)).double() / pixels
    fallen = deletion(maps, images, classes, knowing, pixels)
    torch.testing.assert_close(fallen, share / 2)
    # of the blurred image no pixel is as it was
    assert not (blurred(images) == images).any()
    risen = insertion(maps, images, classes, knowing, pixels)
    torch.testing.assert_close(risen, 1 - share / 2)


def test_the_explained_class_is_followed(places: Tensor, images: Tensor) -> None:
    knowing, nothing = Knowing(places, images), torch.zeros(COUNT, 8, 8)
    one = deletion(nothing, images, torch.ones(COUNT, dtype=torch.int64), knowing, STEPS)
    other = deletion(nothing, images, torch.zeros(COUNT, dtype=torch.int64), knowing, STEPS)
    torch.testing.assert_close(one + other, torch.ones_like(one))


def test_curves_lead_from_start_to_end_in_equal_steps(images: Tensor) -> None:
    shown: list[Tensor] = []

    def probability(x: Tensor) -> FloatArray:
        shown.append(x)
        return np.full((len(x), 2), 0.5)

    order = pixel_order(torch.rand(COUNT, 4, 4), images.shape[2:])
    classes = torch.zeros(COUNT, dtype=torch.int64)
    followed = curves(images, blank(images), order, classes, probability, 7)
    assert followed.shape == (COUNT, 8)
    torch.testing.assert_close(area(followed), torch.full((COUNT,), 0.5, dtype=torch.float64))
    assert torch.equal(shown[0], images)
    assert torch.equal(shown[-1], blank(images))
    black = [int((x == 0).all(1).sum()) / (COUNT * SIZE * SIZE) for x in shown]
    np.testing.assert_allclose(black, np.linspace(0, 1, 8), atol=1 / SIZE**2)
    gone = [(x == 0).all(1) for x in shown]
    assert all(bool((later | ~earlier).all()) for earlier, later in itertools.pairwise(gone))


def test_order_is_that_of_the_map_and_ties_come_from_everywhere() -> None:
    drawn = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    order = pixel_order(drawn, torch.Size((6, 6)))
    assert torch.equal(drawn.flatten(1).argsort(dim=1, descending=True).argsort(dim=1), order)
    flat = pixel_order(torch.zeros(2, 4, 4), torch.Size((16, 16)))
    assert torch.equal(flat[0], flat[1])
    assert torch.equal(flat[0].sort().values, torch.arange(256))
    first = (flat[0] < 128).view(16, 16)
    assert all(2 <= int(row.sum()) <= 14 for row in first)


def test_one_image_as_in_a_batch(places: Tensor, images: Tensor) -> None:
    classes = torch.ones(COUNT, dtype=torch.int64)
    maps = torch.rand(places.shape, generator=torch.Generator().manual_seed(1))
    together = insertion(maps, images, classes, Knowing(places, images), STEPS)
    for i in range(COUNT):
        one = slice(i, i + 1)
        knowing = Knowing(places[one], images[one])
        alone = insertion(maps[one], images[one], classes[one], knowing, STEPS)
        torch.testing.assert_close(alone, together[one])


@pytest.mark.parametrize("size", [(1, 2), (8, 8), (5, 40)])
def test_blur_keeps_the_brightness_of_any_size(size: tuple[int, int]) -> None:
    flat = torch.full((2, 3, *size), 99, dtype=torch.uint8)
    assert torch.equal(blurred(flat), flat)
