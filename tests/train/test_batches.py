"""Batches: a function of seed and step, shared out without a change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from train.batches import Batch, Batches, read_ahead
from train.config import TrainConfig
from train.images import Images

CONFIG = TrainConfig(recipe="x", data="x", epochs=2, batch_size=4, flip=True, shift=1, seed=5)
CPU = torch.device("cpu")


@pytest.fixture
def images() -> Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10, 1, 4, 4), dtype=np.uint8)
    pixels[:, 0, 1:3, 1:3] = np.arange(10)[:, None, None]  # says which image it is, however moved
    return Images(
        ids=tuple(map(str, range(10))),
        pixels=pixels,
        labels=np.arange(10),
        digests=np.zeros((10, 32), dtype=np.uint8),
    )


def batches(
    images: Images, config: TrainConfig = CONFIG, rank: int = 0, workers: int = 1
) -> Batches:
    return Batches(config, images, 256, CPU, rank=rank, workers=workers)


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.pixels, other.pixels) and torch.equal(one.labels, other.labels)


def test_each_epoch_sees_each_image_once(images: Images) -> None:
    made = batches(images)
    assert (len(made), made.epoch_steps) == (6, 3)
    for epoch in range(2):
        seen = [made.batch(step) for step in range(3 * epoch, 3 * epoch + 3)]
        assert [batch.images for batch in seen] == [4, 4, 2]
        assert sorted(torch.cat([batch.labels for batch in seen]).tolist()) == list(range(10))
    assert [made.images_before(step) for step in range(7)] == [0, 4, 8, 10, 14, 18, 20]


def test_a_batch_follows_from_its_step(images: Images) -> None:
    one, other = batches(images), batches(images)
    assert all(same(other.batch(step), one.batch(step)) for step in (5, 0, 3))
    assert not same(one.batch(0), one.batch(3))
    changed = batches(images, replace(CONFIG, seed=6))
    assert not same(one.batch(0), changed.batch(0))
    for step, batch in zip(range(2, 5), one.between(2, 5), strict=True):
        assert same(batch, one.batch(step))


def test_pixels_stay_with_their_labels_and_in_their_bins(images: Images) -> None:
    batch = batches(images).batch(1)
    levels = (batch.pixels * 256).floor().to(torch.int64)
    assert all(label in level for label, level in zip(batch.labels, levels, strict=True))
    plain = batches(images, replace(CONFIG, flip=False, shift=0)).batch(1)
    level = (plain.pixels * 256).floor().to(torch.uint8)
    assert torch.equal(level, torch.from_numpy(images.pixels)[plain.labels])
    noise = plain.pixels * 256 - level
    assert 0.3 < noise.mean() < 0.7
    assert noise.unique().numel() > 50


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_each_batch_without_a_change(images: Images, workers: int) -> None:
    whole = batches(images).batch(2)  # two images: with three workers one has none
    parts = [batches(images, rank=rank, workers=workers).batch(2) for rank in range(workers)]
    assert all(part.images == 2 for part in parts)
    assert sum(len(part.labels) for part in parts) == 2
    for rank, part in enumerate(parts):
        assert torch.equal(part.pixels, whole.pixels[rank::workers])
        assert torch.equal(part.labels, whole.labels[rank::workers])


def test_every_worker_initialises_on_the_same_rows(images: Images) -> None:
    one = batches(images).first(6)
    assert one.shape == (6, 1, 4, 4)
    assert torch.equal(one, batches(images, rank=1, workers=2).first(6))


@pytest.mark.parametrize(("start", "end"), [(0, 6), (2, 5), (3, 4), (4, 4)])
def test_reading_ahead_changes_nothing(images: Images, start: int, end: int) -> None:
    made = batches(images)
    ahead = list(read_ahead(made.batch, range(start, end)))
    assert len(ahead) == end - start
    assert all(same(a, b) for a, b in zip(ahead, made.between(start, end), strict=True))


def test_reading_ahead_ends_with_its_reader_and_passes_errors_on(images: Images) -> None:
    asked = []

    def make(step: int) -> Batch:
        asked.append(step)
        if step == 3:
            raise OSError("gone")
        return batches(images).batch(step)

    reader = read_ahead(make, range(6))
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert asked in ([0], [0, 1])
    with pytest.raises(OSError, match="gone"):
        list(read_ahead(make, range(6)))
    assert 5 not in asked
