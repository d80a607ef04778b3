"""One optimiser step: the rate, the clipping and the decay are those that were asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig
from train.batches import Batch
from train.config import TrainConfig
from train.learner import build_learner
from train.parallel import Alone, World
from train.stepper import Stepper

CONFIG = TrainConfig(recipe="x", data="x", learning_rate=0.5)
FLOW = FlowConfig(
    input_shape=(1, 4, 4), n_classes=3, stages=(StageConfig(downsample="haar", blocks=2, width=5),)
)


def stepper(config: TrainConfig = CONFIG, world: World | None = None) -> Stepper:
    torch.manual_seed(0)
    learner = build_learner(GenerativeClassifier(FLOW), config).train()
    made = Stepper(learner, config, world or Alone())
    with torch.no_grad():  # the last layers begin at zero, which would keep gradients from others
        for parameter in made.learner.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand((6, 1, 4, 4), generator=generator)
    return Batch(pixels=pixels, labels=torch.arange(6) % 3, images=6)


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_the_rate_is_that_of_the_step() -> None:
    """Adam's first step moves each weight by the rate, whatever its gradient."""
    made = stepper(replace(CONFIG, weight_decay=0.0))
    before = weights(made.learner)
    made.step(batch(), learning_rate=1e-3)
    moved = max(
        float((new - old).abs().max())
        for new, old in zip(weights(made.learner), before, strict=True)
    )
    assert moved == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_gradients_are_clipped(most: float) -> None:
    made = stepper(replace(CONFIG, grad_clip=most))
    made.step(batch(), learning_rate=1e-3)
    gradients = [p.grad for p in made.learner.parameters() if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients])))
    assert norm == pytest.approx(1e-3, rel=1e-3) if most < 1 else 1e-3 < norm < most


def test_kernels_alone_decay() -> None:
    """Without a gradient nothing but the decay moves a weight: by rate x decay of itself."""
    made = stepper(replace(CONFIG, weight_decay=0.1))
    before = weights(made.learner)
    for parameter in made.learner.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in made.optimizer.param_groups:
        group["lr"] = 0.01
    made.optimizer.step()
    for old, parameter in zip(before, made.learner.parameters(), strict=True):
        expected = old * (1 - 0.01 * 0.1) if parameter.ndim == 4 else old
        torch.testing.assert_close(parameter.detach(), expected)


def test_the_average_follows() -> None:
    made = stepper(replace(CONFIG, ema=0.9))
    assert made.average is not None
    made.step(batch(), learning_rate=1e-3)
    first = weights(made.learner)
    made.step(batch(), learning_rate=1e-3)
    for mean, old, new in zip(
        weights(made.average.module), first, weights(made.learner), strict=True
    ):
        torch.testing.assert_close(mean, old * 2 / 11 + new * 9 / 11)
    assert stepper().average is None


def test_a_process_without_images_steps_along() -> None:
    """With the gradients of the others."""

    class Others(Alone):
        def sum_gradients(self, module: nn.Module) -> None:
            for parameter in module.parameters():
                parameter.grad = torch.ones_like(parameter)

    made = stepper(replace(CONFIG, weight_decay=0.0), Others())
    whole, before = batch(), weights(made.learner)
    nothing = Batch(pixels=whole.pixels[:0], labels=whole.labels[:0], images=6)
    assert made.step(nothing, learning_rate=1e-3) is None
    for old, new in zip(before, weights(made.learner), strict=True):
        torch.testing.assert_close(new, old - 1e-3)
