"""The average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.ema import averaged


def test_it_is_the_weighted_mean_it_says() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = averaged(module, decay=0.5)
    values = [3.0, 1.0, -2.0, 5.0, 7.0, 0.0, 1.0, 2.0]
    expected = values[0]  # the first update copies
    for step, value in enumerate(values):
        with torch.no_grad():
            module.weight.fill_(value)
        average.update_parameters(module)
        if step:
            decay = min(0.5, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * value
    assert average.state_dict()["module.weight"].item() == pytest.approx(expected)
    assert module.weight.item() == values[-1]


def test_statistics_of_batches_are_averaged_and_indices_are_not() -> None:
    module = nn.BatchNorm1d(2)
    average = averaged(module, decay=0.9)
    means = []
    for step in range(3):
        module(torch.arange(8.0).reshape(4, 2) * (step + 1))
        average.update_parameters(module)
        means.append(module.state_dict()["running_mean"].clone())
    kept = average.state_dict()
    expected = means[0]
    for step, mean in enumerate(means[1:], start=1):
        expected = torch.lerp(mean, expected, (1 + step) / (10 + step))
    torch.testing.assert_close(kept["module.running_mean"], expected)
    assert kept["module.num_batches_tracked"] == 3
