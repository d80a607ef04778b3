"""Augmentation: what may come out, and that it follows its generator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from train.augment import augment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (64, 3, 6, 5), generator=seeded(9), dtype=torch.uint8)


def moved(image: Tensor, dy: int, dx: int) -> Tensor:
    """An image (C, H, W) with each pixel taken from (dy, dx) further on, the border repeated."""
    _, height, width = image.shape
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    return image[:, rows][:, :, columns]


def test_nothing_asked_nothing_changed(images: Tensor) -> None:
    assert torch.equal(augment(images, seeded(), flip=False, shift=0), images)


def test_each_image_is_as_it_was_or_mirrored(images: Tensor) -> None:
    found = augment(images, seeded(), flip=True, shift=0)
    same = [torch.equal(one, image) for one, image in zip(found, images, strict=True)]
    mirrored = [torch.equal(one, image.flip(2)) for one, image in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 20 < sum(mirrored) < 44


@pytest.mark.parametrize("shift", [1, 3])
def test_each_image_is_moved_by_a_step_in_range(images: Tensor, shift: int) -> None:
    found = augment(images, seeded(), flip=False, shift=shift)
    assert found.dtype == torch.uint8
    steps = range(-shift, shift + 1)
    seen = set()
    for one, image in zip(found, images, strict=True):
        fits = {(y, x) for y in steps for x in steps if torch.equal(one, moved(image, y, x))}
        assert fits
        seen |= fits
    assert len(seen) > len(steps) ** 2 / 2


def test_the_generator_decides(images: Tensor) -> None:
    first = augment(images, seeded(1), flip=True, shift=2)
    assert torch.equal(first, augment(images, seeded(1), flip=True, shift=2))
    assert not torch.equal(first, augment(images, seeded(2), flip=True, shift=2))
