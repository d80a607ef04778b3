"""Running means of an epoch, kept on the device until somebody looks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.classifier import ClassifierOutput, bits_per_dim
from model.config import FlowConfig
from train.objective import Losses


class Meter:
    """Means over the images added since ``reset``: loss, bits/dim, accuracy."""

    def __init__(self, config: FlowConfig) -> None:
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget everything added."""
        self._sums: Tensor | None = None
        self._count = 0

    def add(self, losses: Losses, output: ClassifierOutput, labels: Tensor) -> None:
        """Add a batch; nothing is copied from the device here."""
        with torch.no_grad():
            hits = (output.logits.argmax(1) == labels).double().sum()
            log_prob = output.log_prob.sum()
            sums = torch.stack([losses.total.double() * len(labels), log_prob, hits])
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += len(labels)

    def figures(self) -> dict[str, float]:
        """``loss``, ``bits_per_dim`` and ``accuracy``; empty when nothing was added."""
        if self._sums is None:
            return {}
        loss, log_prob, hits = (self._sums.detach() / self._count).tolist()
        bits = bits_per_dim(log_prob, self._config) if math.isfinite(log_prob) else log_prob
        return {"loss": loss, "bits_per_dim": bits, "accuracy": hits}
