"""What is attacked: a function of continuous pixels with gradients, whatever network is behind.

Images are sent in 8 bits and a model may tell fewer levels apart, so what it sees of a pixel is
rounded twice. Attacks see through both as if they were not there (Bengio et al., 2013: straight
through): the value is the rounded one, the gradient that of the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from train.config import WHITE
from train.learner import Classifier


class Attacked(Protocol):
    """A classifier of pixels in [0, 1], of which k / 255 is the 8-bit level k."""

    def look(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K) and, of a generative one, log p(x) (B,) in nats; on the CPU, as x is,
        wherever the network is."""
        ...


@dataclass(frozen=True, eq=False)
class AttackedBaseline:
    """A baseline, of whatever kind, by its classes alone."""

    classifier: Classifier

    def look(self, x: Tensor) -> tuple[Tensor, None]:
        """Logits (B, K), and nothing."""
        device = next(self.classifier.parameters()).device
        output = self.classifier(seen(sent(x), self.classifier.config.levels).to(device))
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits.cpu(), None


def sent(x: Tensor) -> Tensor:
    """Pixels in [0, 1] as the nearest 8-bit level, k / 255; with the gradient of x."""
    return straight_through(x * WHITE) / WHITE


def seen(x: Tensor, levels: int, *, rounds: bool = True) -> Tensor:
    """Pixels k / 255 at the centre of the model's own bin, (k' + 1/2) / levels."""
    level = x * (levels - 1)
    return ((straight_through(level) if rounds else level) + 0.5) / levels


def straight_through(x: Tensor) -> Tensor:
    """x rounded, with the gradient of x."""
    return x + (x.round() - x).detach()
