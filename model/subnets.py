"""The networks inside couplings: any map of the passive channels to scales and shifts.

No normalisation layer: batch statistics would make a likelihood depend on its batch and differ
between training and evaluation. The last layer starts at zero, so the flow starts as the
identity up to ActNorm, which keeps it invertible from the first step.
"""

from __future__ import annotations

from torch import nn


def conv_subnet(channels_in: int, channels_out: int, width: int, dropout: float) -> nn.Sequential:
    """Three 3x3 convolutions of ``width`` channels; (B, in, H, W) to (B, out, H, W).

    In training a share ``dropout`` of the hidden channels is left out of each image's coupling,
    which keeps the class head from overfitting.
    """
    last = nn.Conv2d(width, channels_out, 3, padding=1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None  # noqa: S101 - narrows torch's optional bias
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Conv2d(channels_in, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Dropout2d(dropout),
        last,
    )
