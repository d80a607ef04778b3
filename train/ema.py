"""Exponential moving average of weights: what is kept of a run is the average, not the last step.

``torch.optim.swa_utils.AveragedModel`` with a decay that grows from 0, min(decay, (1 + n) / (10 +
n)) after n steps, so that a short run's average does not remember its start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """A running average of ``module``'s weights; call ``update_parameters`` after each step.

    Buffers are averaged too: the statistics of a BatchNorm belong to the weights that made them.
    """

    @torch.no_grad()
    def average(means: Tensors, news: Tensors, steps: Tensor | int) -> None:
        """All tensors of one device and type at once: on a GPU launches are what it costs."""
        if not means[0].is_floating_point():
            for mean, new in zip(means, news, strict=True):
                mean.copy_(new)
            return
        weight = torch.as_tensor((1 + steps) / (10 + steps)).clamp(max=decay)
        torch._foreach_mul_(means, weight)
        torch._foreach_add_(means, torch._foreach_mul(news, 1 - weight))

    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)
