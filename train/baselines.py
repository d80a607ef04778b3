"""The discriminative baseline: a torchvision ResNet trained alike, to measure the gap by.

It says nothing of p(x) and cannot be calibrated into a bundle; evaluation loads it beside one.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from model.checkpoint import (
    BASELINE_KIND,
    CheckpointError,
    load_fitting,
    parse_config,
    parse_labels,
    parse_weights,
    read_model,
    write_files,
)
from model.config import FlowConfig, expect_input, expect_integer
from model.image import InputSpec
from model.quantize import bin_centres
from model.transforms import Normalize


@dataclass(frozen=True, kw_only=True)
class ResNetStage:
    """Basic blocks of one resolution; the first of them divides height and width by ``stride``."""

    blocks: int
    width: int
    stride: int

    def __post_init__(self) -> None:
        """Refuse a stage that cannot be built."""
        for name in ("blocks", "width", "stride"):
            expect_integer(name, getattr(self, name))
        if min(self.blocks, self.width, self.stride) < 1:
            raise ValueError(f"{self}: expected blocks, width and stride of at least 1")


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A residual network of torchvision's basic blocks behind a 3x3 stem."""

    input_shape: tuple[int, int, int]
    n_classes: int
    stages: tuple[ResNetStage, ...]
    levels: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        expect_input(self.input_shape, self.levels)
        for name in ("n_classes", "seed"):
            expect_integer(name, getattr(self, name))
        if self.n_classes < 1 or self.seed < 0:
            raise ValueError(f"n_classes {self.n_classes}, seed {self.seed}: expected 1, 0 or more")

    @property
    def dim(self) -> int:
        """D, the number of pixel values."""
        return math.prod(self.input_shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ResNetConfig:
        """The inverse of ``to_dict``; raises ``ValueError`` naming what does not fit."""
        try:
            stages = tuple(ResNetStage(**stage) for stage in data["stages"])
            return cls(**{**data, "stages": stages, "input_shape": tuple(data["input_shape"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a baseline this version knows: {error}") from error


def matched_resnet(flow: FlowConfig) -> ResNetConfig:
    """The residual network of a flow's depth: a block for each coupling, as wide as its network,
    at its resolution (as the paper holds its flow against ResNet-50)."""
    stages, stride = [], 1
    for stage in flow.stages:
        stride *= 1 if stage.downsample == "none" else 2
        if stage.couplings:
            stages.append(ResNetStage(blocks=stage.couplings, width=stage.width, stride=stride))
            stride = 1
    return ResNetConfig(
        input_shape=flow.input_shape,
        n_classes=flow.n_classes,
        stages=tuple(stages),
        levels=flow.levels,
        seed=flow.seed,
    )


class ResNetClassifier(nn.Module):
    """Pixels in [0, 1] to logits (B, K)."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.normalize = Normalize(config.input_shape[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net = _resnet(config)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] to logits (B, K)."""
        return self.net(self.normalize(x)[0])  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.normalize.mean.device

    def classify(self, images: Tensor) -> Tensor:
        """uint8 images (B, C, H, W), at their bin centres, to logits."""
        return self(bin_centres(images, self.config.levels))  # type: ignore[no-any-return]

    def initialise(self, pixels: Tensor) -> None:
        """Take the normalisation from a batch of pixels."""
        self.normalize.initialise(pixels)


def _resnet(config: ResNetConfig) -> nn.Sequential:
    channels = config.stages[0].width if config.stages else 64
    layers: list[nn.Module] = [
        nn.Conv2d(config.input_shape[0], channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
    for stage in config.stages:
        for number in range(stage.blocks):
            stride = stage.stride if number == 0 else 1
            layers.append(_block(channels, stage.width, stride))
            channels = stage.width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, config.n_classes)
    )


def _resnet_values(config: ResNetConfig) -> int:
    """Entries of the state of ``ResNetClassifier``, counted without building it."""
    channels = config.stages[0].width if config.stages else 64
    total = 2 * config.input_shape[0] + _conv_values(config.input_shape[0], channels, 3)
    for stage in config.stages:
        width = stage.width
        first = _conv_values(channels, width, 3) + _conv_values(width, width, 3)
        if stage.stride != 1 or channels != width:
            first += _conv_values(channels, width, 1)
        total += first + (stage.blocks - 1) * 2 * _conv_values(width, width, 3)
        channels = width
    return total + channels * config.n_classes + config.n_classes


def _conv_values(channels_in: int, channels_out: int, kernel: int) -> int:
    """A convolution without bias, and its batch normalisation: four vectors and a counter."""
    return channels_in * channels_out * kernel**2 + 4 * channels_out + 1


def _block(channels_in: int, channels_out: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or channels_in != channels_out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
            nn.BatchNorm2d(channels_out),
        )
    return BasicBlock(channels_in, channels_out, stride, shortcut)


@dataclass(frozen=True, kw_only=True)
class BaselineCheckpoint:
    """A baseline with the labels of its classes, in index order."""

    classifier: ResNetClassifier
    class_labels: tuple[str, ...]

    @property
    def spec(self) -> InputSpec:
        """How an encoded image becomes this model's input."""
        config = self.classifier.config
        return InputSpec(shape=config.input_shape, levels=config.levels)


def save_baseline(folder: Path, checkpoint: BaselineCheckpoint) -> None:
    """Write ``config.json`` and ``weights.safetensors``."""
    architecture = {BASELINE_KIND: checkpoint.classifier.config.to_dict()}
    write_files(folder, architecture, checkpoint.class_labels, checkpoint.classifier)


def load_baseline(folder: Path) -> BaselineCheckpoint:
    """Read a baseline; raises ``CheckpointError`` naming the file and what is wrong with it."""
    try:
        return _parse_baseline(*read_model(folder))
    except ValueError as error:
        raise CheckpointError(f"{folder}: not a ResNet baseline ({error})") from error


def _parse_baseline(content: bytes, weights: bytes) -> BaselineCheckpoint:
    data = parse_config(content)
    config = ResNetConfig.from_dict(data.get(BASELINE_KIND, {}))
    labels = parse_labels(data, config.n_classes)
    state = parse_weights(weights, _resnet_values(config))
    classifier = ResNetClassifier(config)
    load_fitting(classifier, state)
    return BaselineCheckpoint(classifier=classifier.eval(), class_labels=labels)
