"""Probes of shape and texture against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from train.evaluation.probes import exchanged, partners, shuffled, silhouettes


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_silhouette_is_the_object_whichever_is_brighter(dark: bool, channels: int) -> None:
    disc = np.hypot(*np.meshgrid(np.arange(-8, 8), np.arange(-8, 8))) < 5
    random = np.random.default_rng(0)
    inside, outside = (40, 200) if dark else (200, 40)
    grey = np.where(disc, inside, outside) + random.integers(-30, 30, (3, channels, 16, 16))
    found = silhouettes(grey.clip(0, 255).astype(np.uint8))
    assert found.shape == (3, channels, 16, 16)
    for image in found:
        np.testing.assert_array_equal(image, np.broadcast_to(np.where(disc, 255, 0), image.shape))


def test_a_blank_has_no_silhouette() -> None:
    for level in (0, 90, 255):
        assert len(np.unique(silhouettes(np.full((1, 1, 5, 5), level, dtype=np.uint8)))) == 1


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_shuffled_patches_are_the_same_ones(grid: int) -> None:
    images = noise(4, 3, 13, 14)
    found = shuffled(images, grid, 0)
    height, width = 13 // grid, 14 // grid

    def patches(image: np.ndarray) -> list[bytes]:
        return sorted(
            image[:, i * height : (i + 1) * height, j * width : (j + 1) * width].tobytes()
            for i in range(grid)
            for j in range(grid)
        )

    for before, after in zip(images, found, strict=True):
        assert patches(before) == patches(after)
        np.testing.assert_array_equal(before[:, grid * height :], after[:, grid * height :])
    assert np.array_equal(images, found) == (grid == 1)
    np.testing.assert_array_equal(shuffled(images, grid, 0), found)


def test_a_grid_finer_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="grid 9: expected at most 8"):
        shuffled(noise(1, 1, 8, 10), 9, 0)


def test_an_image_with_its_own_amplitudes_is_itself() -> None:
    images = noise(3, 3, 12, 10)
    np.testing.assert_array_equal(exchanged(images, images), images)


def test_phases_keep_the_place_of_things() -> None:
    """An edge stays where the phases had it, whatever the amplitudes are."""
    edge = np.zeros((1, 1, 16, 16), dtype=np.uint8)
    edge[..., 8:] = 200
    found = exchanged(edge, noise(1, 1, 16, 16)).astype(float)[0, 0]
    columns = found.mean(axis=0)
    assert columns[8:].mean() > columns[:8].mean()


def test_partners_are_of_another_class() -> None:
    labels = np.repeat(np.arange(5), 20)
    found = partners(labels, 0)
    assert (labels[found] != labels).all()
    np.testing.assert_array_equal(partners(labels, 0), found)
    assert (partners(np.zeros(4, dtype=np.int64), 0) == -1).all()
