"""Exponential moving average of weights: what is kept of a run is the average, not the last step.

``torch.optim.swa_utils.AveragedModel`` with a decay that grows from 0, min(decay, (1 + n) / (10 +
n)) after n steps, so that a short run's average does not remember its start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """A running average of ``module``'s weights; call ``update_parameters`` after each step.

    Buffers are averaged too: the statistics of a BatchNorm belong to the weights that made them.
    """

    def average(mean: Tensor, new: Tensor, steps: Tensor | int) -> Tensor:
        if not mean.is_floating_point():
            return new
        weight = torch.as_tensor((1 + steps) / (10 + steps)).clamp(max=decay).to(mean)
        return torch.lerp(new, mean, weight)

    return AveragedModel(module, avg_fn=average, use_buffers=True)
