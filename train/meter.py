"""Running means of an epoch, kept on the device until somebody looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model.classifier import bits_per_dim
from model.config import FlowConfig
from train.learner import BatchResult
from train.state import EMPTY


class Meter:
    """Means over the images added since ``reset``: loss, accuracy and, for a flow, bits/dim."""

    def __init__(self, flow: FlowConfig | None, sums: Sequence[float] = EMPTY) -> None:
        self._flow = flow
        self._sums = torch.tensor(sums, dtype=torch.float64)
        self._recent = torch.zeros(2, dtype=torch.float64)

    def reset(self) -> None:
        """Forget everything added."""
        self._sums = torch.zeros_like(self._sums)

    @torch.no_grad()
    def add(self, result: BatchResult, labels: Tensor) -> None:
        """Add a batch; nothing is copied to or from the device here, which would wait for it."""
        count = torch.full((), len(labels), dtype=torch.float64, device=labels.device)
        hits = (result.logits.argmax(1) == labels).double().sum()
        density = 0 * count
        if result.log_prob is not None:  # of the others as of those that have a part in it
            density = result.log_prob.double().mean() * count
        sums = torch.stack([result.total.double() * count, density, hits, count])
        self._sums = self._sums.to(sums.device) + sums
        self._recent = self._recent.to(sums.device) + sums[::3]

    def sums(self) -> tuple[float, ...]:
        """Loss, log_prob, correct answers and images, added up; another meter can begin with it."""
        return tuple(self._sums.tolist())

    def recent(self) -> tuple[float, ...]:
        """Loss and images added up since this was last asked, whatever was reset between."""
        recent = tuple(self._recent.tolist())
        self._recent = torch.zeros_like(self._recent)
        return recent

    def figures(self, sums: Sequence[float]) -> dict[str, float]:
        """``loss``, ``accuracy`` and a flow's ``bits_per_dim``; empty when nothing was added.

        ``sums`` are this meter's, or those of several meters added up.
        """
        loss, log_prob, hits, count = sums
        if not count:
            return {}
        figures = {"loss": loss / count, "accuracy": hits / count}
        if self._flow is None:
            return figures
        mean = log_prob / count
        bits = bits_per_dim(mean, self._flow) if math.isfinite(mean) else mean
        return {**figures, "bits_per_dim": bits}
