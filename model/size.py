"""How many values a model holds, from its configuration alone: nothing is built, nothing allocated.

A configuration file is a few bytes that can ask for any amount of memory. Its weights file holds
every value of the model, so a count that differs is refused before anything of that size is made.
"""

from __future__ import annotations

from model.config import FlowConfig, StageConfig
from model.subnets import subnet_layers


def flow_values(config: FlowConfig) -> int:
    """Entries of the state of the classifier that ``config`` builds: parameters and buffers."""
    channels = config.input_shape[0]
    total = 2 * channels  # the normalisation
    for stage in config.stages:
        total += _downsampling(channels, stage)
        channels *= 1 if stage.downsample == "none" else 4
        total += _blocks(channels, stage)
    return total + _means(config) + config.n_classes  # and the prior


def _downsampling(channels: int, stage: StageConfig) -> int:
    if stage.downsample != "coupling":
        return 0
    passive, active = channels // 2, channels - channels // 2
    down = _subnet(stage, passive, 8 * active, stride=2)
    return down + _subnet(stage, 4 * active, 8 * passive) + _mixing(4 * channels)


def _blocks(channels: int, stage: StageConfig) -> int:
    passive, active = channels // 2, channels - channels // 2
    return stage.blocks * (_subnet(stage, passive, 2 * active) + _mixing(channels))


def _subnet(stage: StageConfig, channels_in: int, channels_out: int, stride: int = 1) -> int:
    layers = subnet_layers(stage.subnet, channels_in, channels_out, stage.width, stride)
    return sum(layer.parameters for layer in layers)


def _mixing(channels: int) -> int:
    """ActNorm's scale and offset, and the permutation after it."""
    return 3 * channels


def _means(config: FlowConfig) -> int:
    if config.means == "full":
        return config.n_classes * config.dim
    pooled, rank = config.pooled_channels, config.means_rank
    return config.n_classes * (pooled + rank) + rank * (config.dim - pooled)
