"""Networks built with FrEIA 0.2, the library that users of invertible networks take, to time ours.

``same_network`` is one of our architectures out of FrEIA's idiomatic pieces: ``HaarDownsampling``,
``AllInOneBlock`` (affine coupling, global affine, hard permutation as a dense 1x1 convolution) and
``Flatten``. It holds the very same subnets. Left out, which favours FrEIA: input normalisation and
the DCT. ``published_cifar`` is the CIFAR-10 network of Ardizzone et al. (NeurIPS 2020).

The subnets follow the facts of the published code: conv 3x3, BN, ReLU, conv 3x3, BN, ReLU,
dropout, conv 1x1; a ReLU in front of all but the first block's; the learned downsamplings have
twice their stage's width; permutations are soft, dense rotations. Different here: a last layer of
zeros, without which the network is not invertible in float32, and then a global scale that starts
at 1 and not at 0.7, which made up for growing activations. The learned downsampling is our own
coupling, since FrEIA 0.2 has none.

``precision`` "bf16" is what it is in our flow: inside couplings' networks alone, in training.
Autocast around all of a FrEIA network would bring the flow itself to bfloat16, since permutations
and Haar transforms are convolutions there, and densities with it; the published one then ends in an
error at the DCT, which is float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from model.classifier import ClassifierOutput
from model.config import FlowConfig, StageConfig
from model.couplings import DownsamplingCoupling
from model.subnets import build_subnet
from model.transforms import DctPool, Normalize, Transform, full_precision
from train.config import Precision, TrainConfig
from train.learner import BatchResult, Learner
from train.objective import ib_loss

try:
    from FrEIA import framework, modules
except ImportError as error:  # pragma: no cover - only where the extra is not installed
    raise SystemExit(f"{error}: pip install -e '.[bench]'") from error

CLAMP = 0.7


class LowPrecision(nn.Module):
    """A coupling's network, in training in bfloat16; its answer in the precision of its input."""

    def __init__(self, subnet: nn.Module) -> None:
        super().__init__()
        self.subnet = subnet

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.training):
            hidden: Tensor = self.subnet(x)
        return hidden.to(x.dtype)


def _in_precision(subnet: nn.Module, precision: Precision) -> nn.Module:
    return LowPrecision(subnet) if precision == "bf16" else subnet


class Wrapped(modules.InvertibleModule):  # type: ignore[misc]  # FrEIA has no types
    """One of our transforms as a FrEIA module, for what FrEIA 0.2 does not have."""

    def __init__(
        self, dims_in: list[tuple[int, ...]], transform: Transform, dims_out: tuple[int, ...]
    ) -> None:
        super().__init__(dims_in)
        self.transform = transform
        self._dims_out = dims_out

    def forward(
        self, x: tuple[Tensor], c: object = None, rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        y, ladj = self.transform.inverse(x[0]) if rev else self.transform(x[0])
        return (y,), ladj

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return [self._dims_out]


class Flatten(modules.Flatten):  # type: ignore[misc]  # FrEIA has no types
    """FrEIA's own refuses images that lie channels last; latent to data stays as it is there."""

    def forward(
        self, x: tuple[Tensor], c: object = None, jac: bool = True, rev: bool = False
    ) -> tuple[tuple[Tensor], float]:
        if rev:
            return super().forward(x, c, jac, rev)  # type: ignore[no-any-return]
        return (x[0].flatten(1),), 0.0


class FreiaClassifier(nn.Module):
    """A FrEIA network with class means by hand: -|z - mu_y|^2 / 2 as logits, equal priors."""

    def __init__(self, inn: nn.Module, dim: int, n_classes: int, mu_init: float) -> None:
        super().__init__()
        self.inn = inn
        repeats = dim // n_classes
        tiles = torch.eye(n_classes).repeat(1, repeats) * mu_init / math.sqrt(2 * repeats)
        self.mu = nn.Parameter(nn.functional.pad(tiles, (0, dim - tiles.shape[1])))

    def forward(self, x: Tensor) -> ClassifierOutput:
        with full_precision(x):
            z, ladj = self.inn(x)
            distance = z.square().sum(1, keepdim=True) - 2 * z @ self.mu.T + self.mu.square().sum(1)
        logits = -0.5 * distance - math.log(len(self.mu))
        log_prob = logits.logsumexp(1) - 0.5 * z.shape[1] * math.log(2 * math.pi) + ladj
        return ClassifierOutput(logits=logits, log_prob=log_prob, z=z, ladj=ladj)


class FreiaLearner(Learner):
    """A FrEIA network under the objective of ``train.learner.FlowLearner``."""

    def __init__(self, classifier: FreiaClassifier, config: TrainConfig) -> None:
        super().__init__()
        self.classifier = classifier  # type: ignore[assignment]  # answers alike
        self._beta, self._smoothing = config.beta, config.label_smoothing

    def forward(self, pixels: Tensor, labels: Tensor, moved: int = 0) -> BatchResult:
        output = self.classifier(pixels)
        losses = ib_loss(output, labels, self._beta, self._smoothing)
        return BatchResult(total=losses.total, logits=output.logits, log_prob=output.log_prob)

    def initialise(self, pixels: Tensor) -> None:
        """Give the first transform, where it is a ``Normalize``, the statistics of the batch."""
        inn: Any = self.classifier.inn
        first = inn.module_list[0]
        if isinstance(first, Wrapped):
            first.transform.initialise(pixels)


def same_network(config: FlowConfig, precision: Precision = "float32") -> FreiaClassifier:
    """``config``'s architecture out of FrEIA's modules."""
    inn = framework.SequenceINN(*config.input_shape)
    for stage in config.stages:
        if stage.downsample == "haar":
            inn.append(modules.HaarDownsampling)
        elif stage.downsample == "coupling":
            _append_downsampling(inn, stage, config, precision)
        for _ in range(stage.blocks):
            _append_block(inn, stage, config, precision)
    inn.append(Flatten)
    return FreiaClassifier(inn, config.dim, config.n_classes, config.mu_init)


def _append_block(inn: Any, stage: StageConfig, config: FlowConfig, precision: Precision) -> None:
    def subnet(channels_in: int, channels_out: int) -> nn.Module:
        built = build_subnet(
            stage.subnet, channels_in, channels_out, stage.width, dropout=config.dropout
        )
        return _in_precision(built, precision)

    inn.append(
        modules.AllInOneBlock,
        subnet_constructor=subnet,
        affine_clamping=config.clamp,
        permute_soft=False,
    )


def _append_downsampling(
    inn: Any, stage: StageConfig, config: FlowConfig, precision: Precision
) -> None:
    channels, height, width = inn.shapes[-1]
    passive, active = channels // 2, channels - channels // 2
    down = build_subnet(
        stage.subnet, passive, 8 * active, stage.width, dropout=config.dropout, stride=2
    )
    low = build_subnet(stage.subnet, 4 * active, 8 * passive, stage.width, dropout=config.dropout)
    subnets = (_in_precision(down, precision), _in_precision(low, precision))
    inn.append(
        Wrapped,
        transform=DownsamplingCoupling(channels, *subnets, config.clamp),
        dims_out=(4 * channels, height // 2, width // 2),
    )


def published_cifar(n_classes: int = 10, precision: Precision = "float32") -> FreiaClassifier:
    """3x32x32, blocks [8, 24, 24] of widths [16, 32, 64], DCT, one dense coupling of width 1024."""
    inn = framework.SequenceINN(3, 32, 32)
    inn.append(Wrapped, transform=Normalize(3), dims_out=(3, 32, 32))
    for i, (blocks, width) in enumerate(((8, 16), (24, 32), (24, 64))):
        dropout = 0.25 if i == 2 else 0.0
        for k in range(blocks):
            _append_published(inn, width, dropout, precision, relu_first=bool(i or k))
        channels, height, _ = inn.shapes[-1]
        if i < 2:
            _append_published_downsampling(inn, 2 * width, dropout, precision)
    inn.append(Wrapped, transform=DctPool(channels, height, height), dims_out=(3072,))
    inn.append(modules.PermuteRandom, seed=0)

    def dense(channels_in: int, channels_out: int) -> nn.Module:
        return _in_precision(_dense_subnet(channels_in, channels_out), precision)

    inn.append(modules.GLOWCouplingBlock, subnet_constructor=dense, clamp=2.0)
    return FreiaClassifier(inn, 3072, n_classes, mu_init=5.0)


def _append_published(
    inn: Any, width: int, dropout: float, precision: Precision, *, relu_first: bool
) -> None:
    def subnet(channels_in: int, channels_out: int) -> nn.Module:
        first = [nn.ReLU()] if relu_first else []
        residual = _residual(channels_in, channels_out, width, dropout)
        return _in_precision(nn.Sequential(*first, residual), precision)

    inn.append(
        modules.AllInOneBlock,
        subnet_constructor=subnet,
        affine_clamping=CLAMP,
        permute_soft=True,
    )


def _append_published_downsampling(
    inn: Any, width: int, dropout: float, precision: Precision
) -> None:
    channels, height, _ = inn.shapes[-1]
    passive, active = channels // 2, channels - channels // 2
    down = _residual(passive, 8 * active, width, 0.0, stride=2)
    low = _residual(4 * active, 8 * passive, width, dropout)
    subnets = (_in_precision(down, precision), _in_precision(low, precision))
    inn.append(
        Wrapped,
        transform=DownsamplingCoupling(channels, *subnets, CLAMP),
        dims_out=(4 * channels, height // 2, height // 2),
    )


def _residual(
    channels_in: int, channels_out: int, width: int, dropout: float, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width, eps=1e-4),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width, eps=1e-4),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
        _zeroed(nn.Conv2d(width, channels_out, 1)),
    )


def _dense_subnet(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels_in, 1024),
        nn.ReLU(),
        nn.Dropout(0.5),
        _zeroed(nn.Linear(1024, channels_out)),
    )


def _zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def subnet_parameters(module: nn.Module) -> int:
    """Trainable parameters in layers with kernels and their norms: the networks in couplings."""
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    layers = (layer for layer in module.modules() if isinstance(layer, kinds))
    return sum(p.numel() for layer in layers for p in layer.parameters())
