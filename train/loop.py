"""The training loop: deterministic, interruptible, resumable at any step.

Batches of an epoch follow from (seed, epoch) and the noise of a batch from (seed, step), never
from how often the run was stopped, so an interrupted run ends with the weights of an
undisturbed one on the same machine.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from model.classifier import GenerativeClassifier
from model.quantize import dequantize
from train.config import TrainConfig
from train.images import Images
from train.meter import Meter
from train.objective import ib_loss
from train.progress import Progress
from train.state import Counters, load_state, save_state


class TrainingDivergedError(RuntimeError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Where a run stopped: its counters, whether it is done, and figures of its last epoch."""

    counters: Counters
    finished: bool
    figures: dict[str, float]


class Trainer:
    """A classifier, its optimiser and its rows; ``run`` trains until done or interrupted."""

    def __init__(
        self,
        config: TrainConfig,
        classifier: GenerativeClassifier,
        images: Images,
        state_file: Path,
        save_every_s: float = 60.0,
    ) -> None:
        self._config = config
        self._classifier = classifier
        self._device = classifier.device
        self._pixels = torch.from_numpy(images.pixels)
        self._labels = torch.from_numpy(images.labels)
        self._state_file = state_file
        self._save_every_s = save_every_s
        self._epoch_steps = math.ceil(len(images) / config.batch_size)
        self.total_steps = config.epochs * self._epoch_steps
        self._optimizer = _optimizer(classifier, config)

    def start(self) -> Counters:
        """Data-dependent initialisation on the first rows, for a run that begins."""
        index = _epoch_order(self._config.seed, 0, len(self._labels))[:1024]
        self._classifier.flow.initialise(self._pixels_with_noise(index, step=0))
        return Counters()

    def resume(self) -> Counters:
        """Load the saved state, for a run that goes on; one stopped before its first begins."""
        if not self._state_file.exists():
            return self.start()
        return load_state(self._state_file, self._classifier, self._optimizer)

    def run(self, counters: Counters, stop_at: int | None = None) -> Stopped:
        """Train from ``counters`` on; SIGINT or SIGTERM ends after the step, with the state saved.

        ``stop_at`` ends at that step as an interruption would. Raises ``TrainingDivergedError``
        when the loss is no longer finite; the state last saved is then the last good one.
        """
        end = self.total_steps if stop_at is None else min(stop_at, self.total_steps)
        meter = Meter(self._classifier.config, counters.sums)
        step, began = counters.step, time.monotonic()
        saved = began

        def reached() -> Counters:
            seconds = counters.seconds + time.monotonic() - began
            return Counters(step=step, seconds=seconds, sums=meter.sums())

        self._classifier.train()
        with (
            _interruption() as interrupted,
            torch.random.fork_rng(),
            self._progress(step) as progress,
        ):
            if not step:
                self._save(counters)
            while step < end and not interrupted():
                if step % self._epoch_steps == 0:
                    meter.reset()
                count = self._train_step(step, meter)
                step += 1
                progress.advance(count, **(self._checked(meter, step) if step % 10 == 0 else {}))
                if time.monotonic() - saved > self._save_every_s:
                    saved = time.monotonic()
                    self._save(reached())
        figures, stopped = self._checked_figures(meter, step), reached()
        self._save(stopped)
        self._classifier.eval()
        return Stopped(counters=stopped, finished=step >= self.total_steps, figures=figures)

    def _train_step(self, step: int, meter: Meter) -> int:
        """One optimiser step; returns the number of images."""
        config = self._config
        epoch, position = divmod(step, self._epoch_steps)
        order = _epoch_order(config.seed, epoch, len(self._labels))
        index = order[position * config.batch_size : (position + 1) * config.batch_size]
        labels = self._labels[index].to(self._device)
        pixels = self._pixels_with_noise(index, step)
        torch.manual_seed(_mix(config.seed, 2, step))  # dropout, the same after a resumption
        output = self._classifier(pixels)
        losses = ib_loss(output, labels, config.beta, config.label_smoothing)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(config, step, self.total_steps)
        self._optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self._classifier.parameters(), config.grad_clip)
        self._optimizer.step()
        meter.add(losses, output, labels)
        return len(labels)

    def _pixels_with_noise(self, index: Tensor, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(_mix(self._config.seed, 1, step))
        images = self._pixels[index]
        noise = torch.rand(images.shape, generator=generator)
        levels = self._classifier.config.levels
        return dequantize(images.to(self._device), levels, noise.to(self._device))

    def _checked(self, meter: Meter, step: int) -> dict[str, str]:
        return {name: f"{value:.3f}" for name, value in self._checked_figures(meter, step).items()}

    def _checked_figures(self, meter: Meter, step: int) -> dict[str, float]:
        figures = meter.figures()
        if not all(math.isfinite(value) for value in figures.values()):
            raise self._diverged(step, f"the loss is no longer finite: {figures}")
        return figures

    def _diverged(self, step: int, found: str) -> TrainingDivergedError:
        return TrainingDivergedError(
            f"near step {step} {found}; the last good state is {self._state_file}; try a lower "
            f"--learning-rate than {self._config.learning_rate}"
        )

    def _progress(self, step: int) -> Progress:
        done = _images_before(step, self._epoch_steps, len(self._labels), self._config.batch_size)
        return Progress("training", self._config.epochs * len(self._labels), initial=done)

    def _save(self, counters: Counters) -> None:
        for name, value in self._classifier.named_parameters():
            if not value.isfinite().all():
                raise self._diverged(counters.step, f"{name} holds values that are no numbers")
        save_state(self._state_file, self._classifier, self._optimizer, counters)


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Linear warm-up, then a cosine to zero; a function of the step alone."""
    warmup = max(1, round(config.warmup_fraction * total_steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _optimizer(classifier: GenerativeClassifier, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on convolution kernels only."""
    kernels = [p for p in classifier.parameters() if p.ndim == 4]
    others = [p for p in classifier.parameters() if p.ndim != 4]
    groups = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


def _images_before(step: int, epoch_steps: int, rows: int, batch_size: int) -> int:
    epochs, position = divmod(step, epoch_steps)
    return epochs * rows + min(position * batch_size, rows)


def _epoch_order(seed: int, epoch: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(_mix(seed, 0, epoch))
    return torch.randperm(rows, generator=generator)


def _mix(*numbers: int) -> int:
    """A seed from several numbers, well apart for neighbouring ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _interruption() -> Iterator[_Flag]:
    """Turn SIGINT and SIGTERM into a question that the loop asks between steps."""
    flag = _Flag()
    old = {number: signal.signal(number, flag.set) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _Flag:
    def __init__(self) -> None:
        self._raised = False

    def __call__(self) -> bool:
        return self._raised

    def set(self, number: int, frame: FrameType | None) -> None:
        self._raised = True
