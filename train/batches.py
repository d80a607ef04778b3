"""Batches of a run: their order, augmentation and noise, each a function of the seed and the step.

An epoch's order follows from (seed, epoch), the augmentation and noise of a batch from (seed,
step), never from how often a run was stopped or over how many workers it is spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.quantize import dequantize
from train.augment import augment
from train.config import TrainConfig
from train.images import Images

#: Share of a GPU's free memory that the decoded data set may take, to be indexed there.
RESIDENT_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's share of a batch: float pixels (b, C, H, W) in [0, 1], labels (b,).

    ``images`` counts the whole batch, over all workers.
    """

    pixels: Tensor
    labels: Tensor
    images: int


class Batches:
    """Every batch of a run by its step; ``rank`` of ``workers`` sees its share of each."""

    def __init__(
        self,
        config: TrainConfig,
        images: Images,
        levels: int,
        device: torch.device,
        *,
        rank: int = 0,
        workers: int = 1,
    ) -> None:
        self._config = config
        self._levels = levels
        self._device = device
        self._rank, self._workers = rank, workers
        self._pixels = _near(torch.from_numpy(images.pixels), device)
        self._labels = torch.from_numpy(images.labels)
        self._ordered: tuple[int, Tensor] | None = None
        self.epoch_steps = math.ceil(len(images) / config.batch_size)

    def __len__(self) -> int:
        return self._config.epochs * self.epoch_steps

    def images_before(self, step: int) -> int:
        """How many images the first ``step`` steps see."""
        epochs, position = divmod(step, self.epoch_steps)
        rows = len(self._labels)
        return epochs * rows + min(position * self._config.batch_size, rows)

    def first(self, count: int) -> Tensor:
        """Pixels with noise of the first ``count`` rows of the first epoch, all of them on each
        worker: what data-dependent initialisation sees."""
        index = self._order(0)[:count]
        return self._with_noise(self._pixels[index.to(self._pixels.device)], step=0)

    def between(self, start: int, end: int) -> Iterator[Batch]:
        """Batches of the steps from ``start`` to ``end``, the next one made during the present."""
        steps = range(start, end)
        return (
            read_ahead(self.batch, steps) if self._device.type == "cuda" else map(self.batch, steps)
        )

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        config = self._config
        epoch, position = divmod(step, self.epoch_steps)
        index = self._order(epoch)[
            position * config.batch_size : (position + 1) * config.batch_size
        ]
        mine = slice(self._rank, None, self._workers)
        # drawn for the whole batch and then shared out, so that workers change nothing but time
        generator = self._generator(3, step)
        images = self._pixels[index.to(self._pixels.device)].to(self._device)
        images = augment(images, generator, flip=config.flip, shift=config.shift)
        return Batch(
            pixels=self._with_noise(images, step)[mine],
            labels=self._labels[index][mine].to(self._device),
            images=len(index),
        )

    def _order(self, epoch: int) -> Tensor:
        """Row numbers of an epoch in their order; the last one asked for is kept."""
        if self._ordered is None or self._ordered[0] != epoch:
            generator = torch.Generator().manual_seed(mixed_seed(self._config.seed, 0, epoch))
            self._ordered = epoch, torch.randperm(len(self._labels), generator=generator)
        return self._ordered[1]

    def _with_noise(self, images: Tensor, step: int) -> Tensor:
        generator = self._generator(1, step)
        noise = torch.rand(images.shape, generator=generator, device=generator.device)
        return dequantize(images.to(self._device), self._levels, noise.to(self._device))

    def _generator(self, purpose: int, step: int) -> torch.Generator:
        seed = mixed_seed(self._config.seed, purpose, step)
        return torch.Generator(self._device).manual_seed(seed)


def read_ahead(make: Callable[[int], Batch], steps: range) -> Iterator[Batch]:
    """``make`` of each step in turn, the next one in a thread while the present one is in use."""
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(make, step) for step in steps[:1]]
        for step in range(steps.start + 1, steps.stop + 1):
            batch = coming.pop().result()
            coming += [pool.submit(make, step)] if step < steps.stop else []
            yield batch


def mixed_seed(*numbers: int) -> int:
    """A seed from several numbers, well apart for neighbouring ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _near(pixels: Tensor, device: torch.device) -> Tensor:
    """Pixels on the GPU where they fit well, so that no batch waits for a copy."""
    if device.type != "cuda":
        return pixels
    free, _ = torch.cuda.mem_get_info(device)
    return pixels.to(device) if pixels.nbytes < RESIDENT_SHARE * free else pixels
