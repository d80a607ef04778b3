"""One optimiser step: what the loop repeats, and what a trial of its cost times."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from train.adversarial import adversarial, moved_images
from train.batches import Batch
from train.config import WHITE, TrainConfig
from train.ema import averaged
from train.learner import BatchResult, Learner
from train.parallel import World


class Stepper:
    """A learner with its optimiser and, where ``config`` asks for one, the average of its weights.

    A step is the same in every process of ``world``; of a batch each takes its share.
    """

    def __init__(self, learner: Learner, config: TrainConfig, world: World) -> None:
        self.learner = learner
        self.optimizer = _optimizer(learner, config)
        self.average = averaged(learner, config.ema) if config.ema else None
        self._config = config
        self._world = world
        self._forward = torch.compile(learner) if config.compile else learner

    def step(self, batch: Batch, learning_rate: float) -> BatchResult | None:
        """Take one step; None where this process has no image of the batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        result = self._backward(batch) if len(batch.labels) else None
        self._world.sum_gradients(self.learner)
        nn.utils.clip_grad_norm_(self.learner.parameters(), self._config.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.learner)
        return result

    def _backward(self, batch: Batch) -> BatchResult:
        lower = self._config.precision == "bf16"
        with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=lower):
            pixels, moved = self._attacked(batch)
            result: BatchResult = self._forward(pixels, batch.labels, moved)
        # a mean over this process's images becomes its part of the mean over all of them
        (result.total * (len(batch.labels) / batch.images)).backward()
        return result

    def _attacked(self, batch: Batch) -> tuple[Tensor, int]:
        """Pixels to learn from, and how many of them, from the first, an attacker has moved."""
        config = self._config
        moved = self._moved(batch) if config.adversarial_eps else 0
        if not moved:
            return batch.pixels, 0
        # as it answers: no dropout, and statistics of BatchNorm are not those of attacked images
        self.learner.eval()
        images = adversarial(
            self.learner.logits,
            batch.pixels[:moved],
            batch.labels[:moved],
            eps=config.adversarial_eps / WHITE,
            steps=config.adversarial_steps,
        )
        self.learner.train()
        return torch.cat([images, batch.pixels[moved:]]), moved

    def _moved(self, batch: Batch) -> int:
        """How many of this process's images are among the first half of the whole batch, so that
        the number of processes changes nothing; one at least stays for the density."""
        whole, world = moved_images(batch.images), self._world
        mine = math.ceil(max(0, whole - world.rank) / world.size)
        return min(mine, len(batch.labels) - 1)


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on convolution kernels only."""
    kernels = [p for p in module.parameters() if p.ndim == 4]
    others = [p for p in module.parameters() if p.ndim != 4]
    groups = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
