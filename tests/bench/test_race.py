"""Both networks get their seconds and the same batches, and are judged on the same rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig
from tests.bench.pairs import Spread
from tests.bench.race import Race, Racer, race
from train.batches import Batch, Batches
from train.config import TrainConfig
from train.images import Images
from train.learner import BatchResult, FlowLearner

CONFIG = TrainConfig(recipe="", data="", batch_size=8, learning_rate=1e-2, ema=0.9)
FLOW = FlowConfig(
    input_shape=(3, 8, 8), n_classes=2, stages=(StageConfig(downsample="haar", blocks=1, width=4),)
)
SECONDS = 40


def images() -> Images:
    """Dark and bright noise, which a flow soon tells apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    pixels = rng.integers(0, 96, (64, 3, 8, 8)) + 128 * labels[:, None, None, None]
    return Images(
        ids=tuple(map(str, labels)),
        pixels=pixels.astype(np.uint8),
        labels=labels,
        digests=np.zeros((64, 32), dtype=np.uint8),
    )


class Seen(Batches):
    """Notes which steps were asked for."""

    def __init__(self, images: Images) -> None:
        super().__init__(CONFIG, images, 256, torch.device("cpu"))
        self.steps: list[int] = []

    def batch(self, step: int) -> Batch:
        self.steps.append(step)
        return super().batch(step)


class Diverging(FlowLearner):
    """No number as its third loss."""

    calls = 0

    def forward(self, pixels: Tensor, labels: Tensor, moved: int = 0) -> BatchResult:
        self.calls += 1
        found = super().forward(pixels, labels)
        return replace(found, total=found.total * torch.nan) if self.calls == 3 else found


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every step takes a second."""
    ticks = iter(range(10**6))
    monkeypatch.setattr("tests.bench.pairs.perf_counter", lambda: float(next(ticks)))


def run(theirs: type[FlowLearner] = FlowLearner) -> tuple[Race, list[list[int]]]:
    rows = images()
    batches = (Seen(rows), Seen(rows))
    racers = (
        Racer("theirs", theirs(GenerativeClassifier(FLOW), CONFIG), CONFIG, batches[0], SECONDS),
        Racer("ours", FlowLearner(GenerativeClassifier(FLOW), CONFIG), CONFIG, batches[1], SECONDS),
    )
    found = race("a race", racers, rows, rows=len(rows))
    return found, [seen.steps for seen in batches]


@pytest.mark.usefixtures("steady")
def test_equal_seconds_equal_steps() -> None:
    found, steps = run()
    assert steps == [list(range(SECONDS))] * 2
    assert [standing.seconds for standing in found.standings] == [SECONDS] * 2
    assert found.ratio == Spread(median=1, low=1, high=1)
    first, last = found.standings
    assert first.accuracy == last.accuracy == 1.0
    assert found.lead == (0, 0)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["held_out"] == 64


@pytest.mark.usefixtures("steady")
def test_one_that_diverges_says_so_and_the_other_goes_on() -> None:
    found, steps = run(Diverging)
    assert list(map(len, steps)) == [3, SECONDS]
    first, last = found.standings
    assert first.diverged_at_step == 3
    assert first.accuracy is None
    assert found.lead is None
    assert last.accuracy == 1.0
    assert "diverged, seen at step 3" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)
