"""The architecture as plain data: frozen, to and from JSON, saved beside the weights it built."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Downsample = Literal["none", "haar"]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One resolution of the flow: an optional downsampling, then coupling blocks.

    Each block is an affine coupling, an ActNorm and a fixed channel permutation; ``width`` is the
    number of hidden channels of the network inside the coupling.
    """

    blocks: int
    width: int
    downsample: Downsample = "none"

    def __post_init__(self) -> None:
        """Refuse a stage that cannot be built."""
        if self.downsample not in ("none", "haar"):
            raise ValueError(f"downsample {self.downsample!r}: expected 'none' or 'haar'")
        if self.blocks < 0 or self.width < 1:
            raise ValueError(f"stage with {self.blocks} blocks of width {self.width}")


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The whole generative classifier.

    ``input_shape`` is (channels, height, width); ``levels`` the number of grey values a channel
    has (256 for 8-bit images, 17 for scikit-learn's digits): noise, bin centres and bits/dim
    follow it. ``clamp`` bounds the log-scale of a coupling, ``dropout`` is the share of hidden
    channels left out of couplings in training (each network left is a valid flow), ``mu_init`` the
    initial distance between any two class means, ``seed`` fixes permutations and initial weights.
    """

    input_shape: tuple[int, int, int]
    n_classes: int
    stages: tuple[StageConfig, ...]
    levels: int = 256
    clamp: float = 0.7
    dropout: float = 0.0
    mu_init: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be built: the message names the value and what was expected."""
        channels, height, width = self.input_shape
        if channels not in (1, 3) or min(height, width) < 1:
            raise ValueError(f"input_shape {self.input_shape}: expected 1 or 3 channels first")
        halvings = sum(stage.downsample != "none" for stage in self.stages)
        if height % 2**halvings or width % 2**halvings:
            raise ValueError(
                f"{height} x {width} pixels cannot be halved {halvings} times: expected multiples "
                f"of {2**halvings}"
            )
        for name in ("clamp", "mu_init"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive number")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: expected 0 to below 1")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels {self.levels}: expected 2 to 256")
        if not 1 <= self.n_classes <= self.dim:
            raise ValueError(f"n_classes {self.n_classes}: expected 1 to {self.dim}")

    @property
    def dim(self) -> int:
        """D, the number of pixel values and of latent dimensions."""
        channels, height, width = self.input_shape
        return channels * height * width

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FlowConfig:
        """The inverse of ``to_dict``; raises ``ValueError`` naming what does not fit."""
        try:
            stages = tuple(StageConfig(**stage) for stage in data["stages"])
            shape = tuple(data["input_shape"])
            return cls(**{**data, "stages": stages, "input_shape": shape})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an architecture this version knows: {error}") from error
