"""The networks inside couplings: any map of the passive channels to scales and shifts.

No batch normalisation: batch statistics would make a likelihood depend on its batch and differ
between training and evaluation. The last layer starts at zero, so the flow starts as the
identity up to ActNorm, which keeps it invertible from the first step.
"""

from __future__ import annotations

from torch import nn

from model.config import Subnet


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
    the second layer's. In training a share ``dropout`` of
    the last hidden channels is left out of each image's coupling, which keeps the class head from
    overfitting.
    """
    w = width
    hidden: dict[Subnet, list[tuple[int, int, int]]] = {
        "conv": [(w, 3, 1), (w, 3, stride)],
        "entry": [(w, 3, 1)] if stride == 1 else [(w, 3, 1), (w, 3, stride)],
        "pointwise": [(w, 1, 1)],
        "bottleneck": [(w, 1, 1), (w, 3, stride), (4 * w, 1, 1)],
    }
    layers: list[nn.Module] = []
    for channels, kernel, step in hidden[kind]:
        layers += [
            nn.Conv2d(channels_in, channels, kernel, stride=step, padding=kernel // 2),
            nn.ReLU(inplace=True),
        ]
        channels_in = channels
    if dropout:
        layers.append(nn.Dropout2d(dropout))
    kernel = 3 if kind == "conv" else 1
    return nn.Sequential(*layers, _zero_conv(channels_in, channels_out, kernel))


def _zero_conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None  # noqa: S101 - narrows torch's optional bias
    nn.init.zeros_(conv.bias)
    return conv
