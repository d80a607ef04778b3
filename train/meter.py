"""Running means of an epoch, kept on the device until somebody looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model.classifier import ClassifierOutput, bits_per_dim
from model.config import FlowConfig
from train.objective import Losses
from train.state import EMPTY


class Meter:
    """Means over the images added since ``reset``: loss, bits/dim, accuracy."""

    def __init__(self, config: FlowConfig, sums: Sequence[float] = EMPTY) -> None:
        self._config = config
        self._sums = torch.tensor(sums, dtype=torch.float64)

    def reset(self) -> None:
        """Forget everything added."""
        self._sums = torch.zeros_like(self._sums)

    @torch.no_grad()
    def add(self, losses: Losses, output: ClassifierOutput, labels: Tensor) -> None:
        """Add a batch; nothing is copied from the device here."""
        count = output.log_prob.new_tensor(len(labels))
        hits = (output.logits.argmax(1) == labels).double().sum()
        loss = losses.total.double() * count
        sums = torch.stack([loss, output.log_prob.double().sum(), hits, count])
        self._sums = self._sums.to(sums.device) + sums

    def sums(self) -> tuple[float, ...]:
        """Loss, log_prob, correct answers and images, added up; another meter can begin with it."""
        return tuple(self._sums.tolist())

    def figures(self) -> dict[str, float]:
        """``loss``, ``bits_per_dim`` and ``accuracy``; empty when nothing was added."""
        loss, log_prob, hits, count = self.sums()
        if not count:
            return {}
        mean = log_prob / count
        bits = bits_per_dim(mean, self._config) if math.isfinite(mean) else mean
        return {"loss": loss / count, "bits_per_dim": bits, "accuracy": hits / count}
