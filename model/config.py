"""The architecture as plain data: frozen, to and from JSON, saved beside the weights it built."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Downsample = Literal["none", "haar", "coupling"]
Subnet = Literal["conv", "entry", "pointwise", "bottleneck"]
Means = Literal["full", "low-rank"]

#: Pixels a side at most: beyond it no likelihood is computed here, and a file that says so is
#: damaged or hostile.
LONGEST_SIDE = 4096

#: Whole numbers are below it: what torch takes as a seed, and what a count can be of.
MOST = 2**63


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One resolution of the flow: an optional downsampling, then coupling blocks.

    Each block is an affine coupling, an ActNorm and a fixed channel permutation. ``width`` is the
    number of hidden channels of the network inside a coupling and ``subnet`` its kind (see
    ``model.subnets``). ``downsample`` halves height and width and makes four channels of one:
    ``haar`` is fixed, ``coupling`` a learned two-sided coupling that counts as a block of its own.
    """

    blocks: int
    width: int
    downsample: Downsample = "none"
    subnet: Subnet = "conv"

    def __post_init__(self) -> None:
        """Refuse a stage that cannot be built."""
        for name, kinds in (("downsample", Downsample), ("subnet", Subnet)):
            _expect_one_of(name, getattr(self, name), get_args(kinds))
        for name in ("blocks", "width"):
            expect_integer(name, getattr(self, name))
        if self.blocks < 0 or self.width < 1:
            raise ValueError(f"stage with {self.blocks} blocks of width {self.width}")
        if self.downsample == "coupling" and self.subnet == "pointwise":
            raise ValueError("downsample 'coupling' needs a subnet with a stride, not 'pointwise'")

    @property
    def couplings(self) -> int:
        """Coupling blocks of the stage, a learned downsampling included."""
        return self.blocks + (self.downsample == "coupling")


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The whole generative classifier.

    ``input_shape`` is (channels, height, width); ``levels`` the number of grey values a channel
    has (256 for 8-bit images, 17 for scikit-learn's digits): noise, bin centres and bits/dim
    follow it. ``clamp`` bounds the log-scale of a coupling, ``dropout`` is the share of hidden
    channels left out of couplings in training (each network left is a valid flow), ``mu_init`` the
    initial distance between any two class means, ``seed`` fixes permutations and initial weights.
    ``means``: ``full`` learns K x D class means; ``low-rank`` learns them freely on the mean-pooled
    entries of the latent code and through ``means_rank`` shared directions on the others.
    """

    input_shape: tuple[int, int, int]
    n_classes: int
    stages: tuple[StageConfig, ...]
    levels: int = 256
    clamp: float = 0.7
    dropout: float = 0.0
    mu_init: float = 5.0
    means: Means = "full"
    means_rank: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be built: the message names the value and what was expected."""
        expect_input(self.input_shape, self.levels)
        for name in ("n_classes", "means_rank", "seed"):
            expect_integer(name, getattr(self, name))
        _, height, width = self.input_shape
        step = 2**self.halvings
        if height % step or width % step:
            raise ValueError(
                f"{height} x {width} pixels cannot be halved {self.halvings} times: expected "
                f"multiples of {step}"
            )
        _expect_two_channels(self.input_shape[0], self.stages)
        for name in ("clamp", "mu_init"):
            expect_number(name, getattr(self, name))
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive number")
        expect_number("dropout", self.dropout)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: expected 0 to below 1")
        _expect_one_of("means", self.means, get_args(Means))
        if self.means_rank < 1:
            raise ValueError(f"means_rank {self.means_rank}: expected at least 1")
        limit = self.dim if self.means == "full" else self.pooled_channels
        if not 1 <= self.n_classes <= limit:
            raise ValueError(f"n_classes {self.n_classes}: expected 1 to {limit}")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected 0 or more")

    @property
    def dim(self) -> int:
        """D, the number of pixel values and of latent dimensions."""
        channels, height, width = self.input_shape
        return channels * height * width

    @property
    def halvings(self) -> int:
        """How often height and width are halved on the way to the latent code."""
        return sum(stage.downsample != "none" for stage in self.stages)

    @property
    def pooled_channels(self) -> int:
        """Channels of the last resolution: the mean-pooled entries that begin the latent code."""
        return int(self.input_shape[0] * 4**self.halvings)

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


def expect_integer(name: str, value: object) -> None:
    """Raise ``ValueError`` for anything but a whole number; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= MOST:
        raise ValueError(f"{name} {value!r}: expected a whole number below 2**63")


def expect_number(name: str, value: object) -> None:
    """Raise ``ValueError`` for anything but a number; true and false are none."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST
    if not (whole or isinstance(value, float)):
        raise ValueError(f"{name} {value!r}: expected a number")


def expect_input(shape: tuple[int, int, int], levels: int) -> None:
    """Raise ``ValueError`` where no image has this shape (C, H, W) and number of grey levels."""
    for value in shape:
        expect_integer(f"input_shape {shape}:", value)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"input_shape {shape}: expected 1 or 3 channels first, height and width")
    if not all(1 <= side <= LONGEST_SIDE for side in shape[1:]):
        raise ValueError(f"input_shape {shape}: expected sides of 1 to {LONGEST_SIDE} pixels")
    expect_integer("levels", levels)
    if not 2 <= levels <= 256:
        raise ValueError(f"levels {levels}: expected 2 to 256")


def _expect_two_channels(channels: int, stages: tuple[StageConfig, ...]) -> None:
    """Raise ``ValueError`` where a coupling would find one channel, which cannot be parted."""
    for stage in stages:
        halves = stage.downsample != "none"
        couples_first = stage.downsample == "coupling" or (stage.blocks > 0 and not halves)
        if channels < 2 and couples_first:
            raise ValueError("a coupling needs 2 channels: put a 'haar' stage before grey images")
        channels *= 4 if halves else 1


def _expect_one_of(name: str, value: str, kinds: tuple[str, ...]) -> None:
    if value not in kinds:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(kinds)}")
