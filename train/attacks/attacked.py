"""What is attacked: a function of continuous pixels with gradients, whatever network is behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from train.baselines import ResNetClassifier


class Attacked(Protocol):
    """A classifier of pixels in [0, 1], of which k / 255 is the 8-bit level k."""

    def look(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K) and, of a generative one, log p(x) (B,) in nats."""
        ...


@dataclass(frozen=True, eq=False)
class AttackedBaseline:
    """A discriminative baseline: it has no density."""

    classifier: ResNetClassifier

    def look(self, x: Tensor) -> tuple[Tensor, None]:
        """Logits (B, K), and nothing."""
        return self.classifier(centred(x, self.classifier.config.levels)), None


def centred(x: Tensor, levels: int) -> Tensor:
    """Where a model's own levels have their bin centres."""
    return (x * (levels - 1) + 0.5) / levels
