"""Counting a model's values without building it: never another number than what is built."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from model.classifier import GenerativeClassifier
from model.config import Downsample, FlowConfig, Means, StageConfig, Subnet
from model.size import flow_values


def built(config: FlowConfig) -> int:
    return sum(value.numel() for value in GenerativeClassifier(config).state_dict().values())


@pytest.mark.parametrize("means", get_args(Means))
@pytest.mark.parametrize("channels", [1, 3])
def test_the_count_is_that_of_what_is_built(channels: int, means: Means) -> None:
    first = StageConfig(blocks=2, width=3, downsample="haar")
    kinds = itertools.product(get_args(Subnet), get_args(Downsample), (0, 1, 2))
    for subnet, downsample, blocks in kinds:
        if (subnet, downsample) == ("pointwise", "coupling"):
            continue
        stage = StageConfig(blocks=blocks, width=5, downsample=downsample, subnet=subnet)
        config = FlowConfig(
            input_shape=(channels, 8, 4),
            n_classes=3,
            stages=(first, stage),
            means=means,
            means_rank=7,
            dropout=0.1,
        )
        assert flow_values(config) == built(config), stage


def test_an_odd_number_of_channels() -> None:
    stage = StageConfig(blocks=1, width=4, downsample="coupling", subnet="entry")
    config = FlowConfig(input_shape=(3, 4, 4), n_classes=2, stages=(stage,))
    assert flow_values(config) == built(config)
