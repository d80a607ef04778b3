"""From a ``FlowConfig`` to the flow: pixels in [0, 1] to a latent vector of the same size."""

from __future__ import annotations

import torch

from model.config import FlowConfig, StageConfig
from model.couplings import AffineCoupling, DownsamplingCoupling
from model.subnets import build_subnet
from model.transforms import (
    ActNorm,
    Compose,
    DctPool,
    HaarDownsample,
    Normalize,
    Permutation,
    Transform,
)


def build_flow(config: FlowConfig) -> Compose:
    """(B, C, H, W) in [0, 1] to z (B, D); weights and permutations follow ``config.seed``."""
    channels, height, width = config.input_shape
    transforms: list[Transform] = [Normalize(channels)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for stage in config.stages:
            transforms.extend(_downsampling(channels, stage, config))
            if stage.downsample != "none":
                channels, height, width = 4 * channels, height // 2, width // 2
            transforms.extend(_blocks(channels, stage, config))
    flow = Compose([*transforms, DctPool(channels, height, width)])
    # networks inside couplings compute channels last, which spares them a reordering of every
    # output; the flow itself does not, since permutations would then be the dearer
    return flow.to(memory_format=torch.channels_last)


def _downsampling(channels: int, stage: StageConfig, config: FlowConfig) -> list[Transform]:
    if stage.downsample == "none":
        return []
    if stage.downsample == "haar":
        return [HaarDownsample()]
    passive, active = channels // 2, channels - channels // 2
    down = build_subnet(
        stage.subnet, passive, 8 * active, stage.width, dropout=config.dropout, stride=2
    )
    low = build_subnet(stage.subnet, 4 * active, 8 * passive, stage.width, dropout=config.dropout)
    return _mixed(DownsamplingCoupling(channels, down, low, config.clamp), 4 * channels)


def _blocks(channels: int, stage: StageConfig, config: FlowConfig) -> list[Transform]:
    passive, active = channels // 2, channels - channels // 2
    transforms: list[Transform] = []
    for _ in range(stage.blocks):
        subnet = build_subnet(
            stage.subnet, passive, 2 * active, stage.width, dropout=config.dropout
        )
        transforms += _mixed(AffineCoupling(channels, subnet, config.clamp), channels)
    return transforms


def _mixed(coupling: Transform, channels: int) -> list[Transform]:
    return [coupling, ActNorm(channels), Permutation(torch.randperm(channels))]
