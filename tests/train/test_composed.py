"""Composed images: exact halves of two classes, and the rule for maps that know their side."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.evaluation.composed import CHANCE, compose, left_share, on_their_sides


@pytest.mark.parametrize("width", [6, 7])
def test_halves_are_those_of_two_images_of_two_classes(width: int) -> None:
    labels = np.array([0, 0, 1, 2, 2])
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, width), dtype=np.uint8)
    made = compose(pixels, labels, 40, seed=0)
    middle = width // 2
    assert made.pixels.shape == (40, 3, 4, width)
    assert (made.left != made.right).all()
    for i in range(len(made)):
        of_left = pixels[labels == made.left[i]][..., :middle]
        of_right = pixels[labels == made.right[i]][..., middle:]
        assert any(np.array_equal(made.pixels[i][..., :middle], half) for half in of_left)
        assert any(np.array_equal(made.pixels[i][..., middle:], half) for half in of_right)


def test_drawn_by_the_seed_alone() -> None:
    labels = np.arange(50) % 4
    pixels = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)
    kept = pixels.copy()
    one, again, other = (compose(pixels, labels, 30, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.left, again.left)
    assert not np.array_equal(one.left, other.left)
    assert np.array_equal(pixels, kept)
    assert set(one.left) == set(one.right) == {0, 1, 2, 3}


def test_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match="single class"):
        compose(np.zeros((3, 1, 4, 4), np.uint8), np.zeros(3, np.int64), 1, seed=0)


def test_share_by_columns_counts_positive_mass_alone() -> None:
    columns = torch.tensor([[3.0, 0, 0, 1], [-9, 0, 2, 0], [0, 0, 0, 0]])
    heatmaps = torch.stack([columns, torch.zeros_like(columns)], dim=1)
    np.testing.assert_allclose(left_share(heatmaps, 8), [0.75, 0, np.nan])


def test_a_place_over_the_middle_is_shared_between_the_sides() -> None:
    heatmaps = torch.eye(7)[:, None]
    np.testing.assert_allclose(left_share(heatmaps, 28), [1, 1, 1, 0.5, 0, 0, 0])
    # of 3 places over 8 columns the middle one has columns 2 2/3 to 5 1/3, half of them below 4
    np.testing.assert_allclose(left_share(torch.eye(3)[:, None], 8), [1, 0.5, 0])
    # of 7 columns the first 3 are left
    np.testing.assert_allclose(left_share(torch.ones(1, 1, 7), 7), [3 / 7])


def test_right_where_both_are_on_their_sides() -> None:
    left, right, none = torch.tensor([[1.0, 0]]), torch.tensor([[0, 1.0]]), torch.zeros(1, 2)
    of_left = torch.stack([left, right, left, left, left + right])
    of_right = torch.stack([right, right, left, none, right])
    assert on_their_sides(of_left, of_right, 4).tolist() == [True, False, False, False, False]


def test_maps_that_know_nothing_are_right_by_chance() -> None:
    drawn = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4000, 7, 7, generator=drawn)
    share = on_their_sides(maps[0], maps[1], 28).mean()
    assert abs(share - CHANCE) < 4 * (CHANCE * (1 - CHANCE) / 4000) ** 0.5
