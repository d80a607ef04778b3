"""A small model held against digits, as suites of an evaluation take it."""

from __future__ import annotations

import torch

from service.bundle import Bundle
from service.cli.evaluate import model_of
from train.baselines import ResNetClassifier, ResNetConfig, ResNetStage
from train.data import open_data
from train.evaluation.measure import Baseline, Held, hold

#: Known images that are enough of a suite.
ROWS = 60


def held_digits(bundle: Bundle) -> Held:
    """``ROWS`` digits that the model has not seen."""
    return hold(model_of(bundle), open_data("digits:test"), (), ROWS)


def untrained(held: Held, name: str = "net") -> Baseline:
    """A small ResNet of digits, not trained: what it says is beside the point."""
    config = ResNetConfig(
        input_shape=(1, 8, 8),
        n_classes=10,
        levels=17,
        stages=(ResNetStage(blocks=1, width=4, stride=2),),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = ResNetClassifier(config).eval()
    return Baseline(name=name, kind="resnet", classifier=classifier, record=held.model.record)
