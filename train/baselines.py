"""The discriminative baseline: a torchvision ResNet trained alike, to measure the gap by.

It says nothing of p(x) and cannot be calibrated into a bundle; evaluation loads it beside one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, CheckpointError, write_atomic
from model.config import FlowConfig
from model.image import InputSpec
from model.quantize import bin_centres

KIND = "resnet"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ResNetStage:
    """Basic blocks of one resolution; the first of them divides height and width by ``stride``."""

    blocks: int
    width: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A residual network of torchvision's basic blocks behind a 3x3 stem."""

    input_shape: tuple[int, int, int]
    n_classes: int
    stages: tuple[ResNetStage, ...]
    levels: int = 256
    seed: int = 0

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

    mean: Tensor
    std: Tensor

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.input_shape[0]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net = _resnet(config)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] to logits (B, K)."""
        x = (x - self.mean[:, None, None]) / self.std[:, None, None]
        return self.net(x)  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def classify(self, images: Tensor) -> Tensor:
        """uint8 images (B, C, H, W), at their bin centres, to logits."""
        return self(bin_centres(images, self.config.levels))  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialise(self, pixels: Tensor) -> None:
        """Take the normalisation from a batch of pixels."""
        std, mean = torch.std_mean(pixels, dim=(0, 2, 3), correction=0)
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-3))


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
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "schema_version": SCHEMA_VERSION,
        KIND: checkpoint.classifier.config.to_dict(),
        "classes": list(checkpoint.class_labels),
    }
    content = json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n"
    write_atomic(folder / CONFIG_FILE, content)
    named = checkpoint.classifier.state_dict().items()
    state = {name: value.detach().cpu().contiguous() for name, value in named}
    write_atomic(folder / WEIGHTS_FILE, save(state))


def load_baseline(folder: Path) -> BaselineCheckpoint:
    """Read a baseline; raises ``CheckpointError`` naming the file and what is wrong with it."""
    try:
        data = json.loads((folder / CONFIG_FILE).read_bytes())
        classifier = ResNetClassifier(ResNetConfig.from_dict(data[KIND]))
        labels = tuple(str(label) for label in data["classes"])
        classifier.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: not a ResNet baseline ({error})") from error
    return BaselineCheckpoint(classifier=classifier.eval(), class_labels=labels)
