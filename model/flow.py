"""From a ``FlowConfig`` to the flow: pixels in [0, 1] to a latent vector of the same size."""

from __future__ import annotations

import torch

from model.config import FlowConfig, StageConfig
from model.subnets import conv_subnet
from model.transforms import (
    ActNorm,
    AffineCoupling,
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
            if stage.downsample == "haar":
                transforms.append(HaarDownsample())
                channels, height, width = 4 * channels, height // 2, width // 2
            transforms.extend(_blocks(channels, stage, config))
    return Compose([*transforms, DctPool(channels, height, width)])


def _blocks(channels: int, stage: StageConfig, config: FlowConfig) -> list[Transform]:
    if channels < 2 and stage.blocks:
        raise ValueError("a coupling needs 2 channels: put a 'haar' stage before grey images")
    active = channels - channels // 2
    transforms: list[Transform] = []
    for _ in range(stage.blocks):
        subnet = conv_subnet(channels // 2, 2 * active, stage.width, config.dropout)
        transforms += [
            AffineCoupling(channels, subnet, config.clamp),
            ActNorm(channels),
            Permutation(torch.randperm(channels)),
        ]
    return transforms
