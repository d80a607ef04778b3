"""The networks inside couplings: any map of the passive channels to scales and shifts.

No batch normalisation: batch statistics would make a likelihood depend on its batch and differ
between training and evaluation. The last layer starts at zero, so the flow starts as the
identity up to ActNorm, which keeps it invertible from the first step.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from model.config import Subnet


class Layer(NamedTuple):
    """One convolution."""

    channels_in: int
    channels_out: int
    kernel: int
    stride: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.channels_in * self.channels_out * self.kernel**2 + self.channels_out


def subnet_layers(
    kind: Subnet, channels_in: int, channels_out: int, width: int, stride: int = 1
) -> list[Layer]:
    """The convolutions of ``build_subnet``, in order: what it builds, and what it would hold."""
    w = width
    hidden: dict[Subnet, list[tuple[int, int, int]]] = {
        "conv": [(w, 3, 1), (w, 3, stride)],
        "entry": [(w, 3, 1)] if stride == 1 else [(w, 3, 1), (w, 3, stride)],
        "pointwise": [(w, 1, 1)],
        "bottleneck": [(w, 1, 1), (w, 3, stride), (4 * w, 1, 1)],
    }
    layers = []
    for channels, kernel, step in [*hidden[kind], (channels_out, 3 if kind == "conv" else 1, 1)]:
        layers.append(Layer(channels_in, channels, kernel, step))
        channels_in = channels
    return layers


def build_subnet(
    kind: Subnet,
    channels_in: int,
    channels_out: int,
    width: int,
    *,
    dropout: float,
    stride: int = 1,
) -> nn.Sequential:
    """(B, in, H, W) to (B, out, H / stride, W / stride) by layers of ``width`` hidden channels.

    ``conv``: 3x3, 3x3, 3x3. ``entry``: 3x3, 1x1, with another 3x3 between them where there is a
    stride. ``pointwise``: 1x1, 1x1. ``bottleneck``: 1x1, 3x3, 1x1 to 4 ``width``, 1x1. A stride is
    the second layer's. In training a share ``dropout`` of the last hidden channels is left out of
    each image's coupling, which keeps the class head from overfitting.
    """
    *hidden, last = subnet_layers(kind, channels_in, channels_out, width, stride)
    layers: list[nn.Module] = []
    for layer in hidden:
        layers += [_conv(layer), nn.ReLU(inplace=True)]
    # also where nothing is dropped: the names of weights must not depend on it
    return nn.Sequential(*layers, nn.Dropout2d(dropout), _zero_conv(last))


def _conv(layer: Layer) -> nn.Conv2d:
    padding = layer.kernel // 2
    return nn.Conv2d(
        layer.channels_in, layer.channels_out, layer.kernel, stride=layer.stride, padding=padding
    )


def _zero_conv(layer: Layer) -> nn.Conv2d:
    conv = _conv(layer)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None  # noqa: S101 - narrows torch's optional bias
    nn.init.zeros_(conv.bias)
    return conv
