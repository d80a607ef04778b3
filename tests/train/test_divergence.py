"""When training has failed, and when it has not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from train.divergence import (
    FAR_ABOVE_X,
    FAR_ABOVE_Y,
    PATIENCE,
    TrainingDivergedError,
    Watchdog,
)


@pytest.fixture
def watchdog() -> Watchdog:
    return Watchdog(Path("run/state"), 0.01, beta=math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number(watchdog: Watchdog, value: float) -> None:
    with pytest.raises(TrainingDivergedError, match=r"step 7 .* no longer finite.*--learning-rate"):
        watchdog.look(7, value)
    with pytest.raises(TrainingDivergedError, match=r"step 8 bits_per_dim is no longer finite"):
        watchdog.finite(8, {"loss": 1.0, "bits_per_dim": value})


@pytest.mark.parametrize(
    ("beta", "limit"),
    [(math.inf, FAR_ABOVE_Y), (0.0, FAR_ABOVE_X), (1.0, (FAR_ABOVE_X + FAR_ABOVE_Y) / 2)],
)
def test_a_loss_that_stays_far_above_its_best(beta: float, limit: float) -> None:
    watchdog = Watchdog(Path("run/state"), 0.01, beta)
    for loss in (-2.0, -2.0 + limit - 0.1):
        watchdog.look(0, loss)
        assert not watchdog.suspicious
    for step in range(1, PATIENCE):
        watchdog.look(step, -2.0 + limit + 0.1)
        assert watchdog.suspicious
    with pytest.raises(TrainingDivergedError, match=r"after a best of -2;.*run/state"):
        watchdog.look(PATIENCE, -2.0 + limit + 0.1)


def test_a_high_start_and_single_bad_looks_are_no_divergence(watchdog: Watchdog) -> None:
    for loss in [500.0, 90.0, 40.0, 1.0, 30.0, 30.0, 2.0, 30.0, 1.0]:
        watchdog.look(1, loss)
    assert not watchdog.suspicious


def test_nothing_is_handed_over_in_doubt(watchdog: Watchdog) -> None:
    watchdog.look(1, 0.5)
    watchdog.at_the_end(1)
    watchdog.look(2, 30.0)
    with pytest.raises(TrainingDivergedError, match=r"rose far above its best of 0\.5"):
        watchdog.at_the_end(2)


def test_weights_that_are_no_numbers_are_named(watchdog: Watchdog) -> None:
    module = nn.Linear(2, 1)
    watchdog.check_weights(1, module)
    with torch.no_grad():
        module.bias.fill_(math.nan)
    with pytest.raises(TrainingDivergedError, match="bias holds values that are no numbers"):
        watchdog.check_weights(1, module)
