"""When training has failed, and when it has not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from train.divergence import FAR_ABOVE, PATIENCE, TrainingDivergedError, Watchdog


@pytest.fixture
def watchdog() -> Watchdog:
    return Watchdog(Path("run/state"), 0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number(watchdog: Watchdog, value: float) -> None:
    with pytest.raises(TrainingDivergedError, match=r"step 7 .* no longer finite.*--learning-rate"):
        watchdog.look(7, {"loss": 1.0, "bits_per_dim": value})


def test_a_loss_that_stays_far_above_its_best(watchdog: Watchdog) -> None:
    watchdog.look(0, {"loss": -2.0})
    for step in range(1, PATIENCE):
        watchdog.look(step, {"loss": -2.0 + FAR_ABOVE + 1})
        assert watchdog.suspicious
    with pytest.raises(TrainingDivergedError, match=r"loss is 19 after a best of -2.*run/state"):
        watchdog.look(PATIENCE, {"loss": -2.0 + FAR_ABOVE + 1})


def test_a_high_start_and_single_bad_looks_are_no_divergence(watchdog: Watchdog) -> None:
    for loss in [500.0, 90.0, 40.0, 1.0, 30.0, 30.0, 2.0, 30.0, 1.0]:
        watchdog.look(1, {"loss": loss})
    assert not watchdog.suspicious


def test_weights_that_are_no_numbers_are_named(watchdog: Watchdog) -> None:
    module = nn.Linear(2, 1)
    watchdog.check_weights(1, module)
    with torch.no_grad():
        module.bias.fill_(math.nan)
    with pytest.raises(TrainingDivergedError, match="bias holds values that are no numbers"):
        watchdog.check_weights(1, module)
