"""Training of two networks side by side, each for the same seconds of its own clock.

They take turns in one process, so that what slows the machine slows both. Batches are the same at
the same step, and so are optimiser, clipping, average of weights, precision and the schedule, which
is ``train.loop``'s over the seconds that have passed. A step on the clock is all of it: batch,
augmentation, gradients, update. The judging is not; it is done on rows held out from training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch

from calibration.arrays import FloatArray
from model.quantize import bin_centres
from model.scoring import default_device
from tests.bench.pairs import Spread, seconds_of
from train.batch_sizes import INITIAL_IMAGES
from train.batches import Batches
from train.config import TrainConfig
from train.images import Images
from train.learner import Learner
from train.loop import learning_rate
from train.parallel import Alone
from train.stepper import Stepper

#: Turns of each network.
TURNS = 20
#: Parts of the time in which the learning rate is constant.
RATES = 100_000
JUDGED_AT_ONCE = 256
LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A network after its time; the figures of held-out rows are None where training diverged."""

    name: str
    parameters: int
    learning_rate: float
    seconds: float
    steps: int
    images_per_s: float
    diverged_at_step: int | None
    accuracy: float | None
    bits_per_dim: float | None


@dataclass(frozen=True, kw_only=True)
class Race:
    """``ratio``: images/s in training, the last of ``standings`` over the first, by turns.

    ``lead`` is the last one's accuracy less the first's, with its standard error over the
    ``held_out`` rows that both were asked.
    """

    title: str
    train_rows: int
    held_out: int
    standings: tuple[Standing, ...]
    ratio: Spread
    lead: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [self.title]
        for standing in self.standings:
            lines.append(
                f"  {standing.name:10} {standing.seconds:7.1f} s, {standing.steps:6} steps, "
                f"{standing.images_per_s:8.1f} images/s; {_judged(standing)}"
            )
        lines.append(f"  images/s in training, ratio: {self.ratio}")
        if self.lead is not None:
            lines.append("  accuracy, difference: {:+.4f} +- {:.4f}".format(*self.lead))
        return "\n".join(lines)


def _judged(standing: Standing) -> str:
    if standing.accuracy is None:
        return f"diverged, seen at step {standing.diverged_at_step}"
    return f"accuracy {standing.accuracy:.4f}, {standing.bits_per_dim:.3f} bits/dim"


class Racer:
    """A learner in training, with its clock."""

    def __init__(
        self, name: str, learner: Learner, config: TrainConfig, batches: Batches, seconds: float
    ) -> None:
        self.name = name
        self.learning_rate = config.learning_rate
        self.spent, self.steps, self.images = 0.0, 0, 0
        self.diverged_at: int | None = None
        learner.initialise(batches.first(INITIAL_IMAGES))
        self._stepper = Stepper(learner.train(), config, Alone())
        self._config, self._batches, self._seconds = config, batches, seconds

    @property
    def running(self) -> bool:
        return self.spent < self._seconds and self.diverged_at is None

    @property
    def parameters(self) -> int:
        """How many are trained."""
        return sum(p.numel() for p in self._stepper.learner.parameters() if p.requires_grad)

    @property
    def kept(self) -> Learner:
        """What training leaves: the average of weights where there is one."""
        average = self._stepper.average
        return self._stepper.learner if average is None else cast(Learner, average.module)

    def turn(self) -> float:
        """Train for a share of the time, at least one step; images/s."""
        began, images = self.spent, self.images
        end = min(began + self._seconds / TURNS, self._seconds)
        while self.running and self.spent < end:
            self.spent += seconds_of(self._step)
        return (self.images - images) / (self.spent - began)

    def _step(self) -> None:
        batch = self._batches.batch(self.steps)
        passed = int(self.spent / self._seconds * RATES)
        result = self._stepper.step(batch, learning_rate(self._config, passed, RATES))
        assert result is not None  # a process alone has images in every batch
        self.steps += 1
        self.images += batch.images
        if not math.isfinite(result.total.item()):
            self.diverged_at = self.steps


def race(title: str, racers: tuple[Racer, Racer], held_out: Images, *, rows: int) -> Race:
    """Train both on ``rows`` images, then judge them."""
    rates = list(_turns(racers))
    judged = [_judge(racer.kept, held_out) for racer in racers]
    return Race(
        title=title,
        train_rows=rows,
        held_out=len(held_out),
        standings=tuple(map(_standing, racers, judged)),
        ratio=Spread.of([ours / theirs for theirs, ours in rates]),
        lead=_lead(*judged),
    )


def _turns(racers: tuple[Racer, Racer]) -> Iterator[tuple[float, float]]:
    """Images/s of both, turn by turn; when one has had its time, the other goes on alone."""
    while all(racer.running for racer in racers):
        yield racers[0].turn(), racers[1].turn()
    for racer in racers:
        while racer.running:
            racer.turn()


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """``hits`` (N,): 1 for a held-out row that is right, else 0."""

    hits: FloatArray
    bits_per_dim: float


@torch.no_grad()
def _judge(learner: Learner, held_out: Images) -> _Judged | None:
    """Answers at the bin centres, in evaluation mode and float32; None where one is no number."""
    learner.eval()
    hits, log_prob = [], []
    for start in range(0, len(held_out), JUDGED_AT_ONCE):
        pixels = torch.from_numpy(held_out.pixels[start : start + JUDGED_AT_ONCE])
        output = learner.classifier(bin_centres(pixels.to(default_device()), LEVELS))
        labels = held_out.labels[start : start + JUDGED_AT_ONCE]
        hits.append(output.logits.argmax(1).cpu().numpy() == labels)
        log_prob.append(output.log_prob.double().cpu().numpy())
    nats = float(np.concatenate(log_prob).mean()) / held_out.pixels[0].size
    if not math.isfinite(nats):
        return None
    return _Judged(
        hits=np.concatenate(hits).astype(np.float64),
        bits_per_dim=math.log2(LEVELS) - nats / math.log(2),
    )


def _standing(racer: Racer, judged: _Judged | None) -> Standing:
    return Standing(
        name=racer.name,
        parameters=racer.parameters,
        learning_rate=racer.learning_rate,
        seconds=racer.spent,
        steps=racer.steps,
        images_per_s=racer.images / racer.spent,
        diverged_at_step=racer.diverged_at,
        accuracy=None if judged is None else float(judged.hits.mean()),
        bits_per_dim=None if judged is None else judged.bits_per_dim,
    )


def _lead(first: _Judged | None, last: _Judged | None) -> tuple[float, float] | None:
    if first is None or last is None:
        return None
    gained = last.hits - first.hits
    return float(gained.mean()), float(gained.std() / math.sqrt(len(gained)))
