"""A small model held against digits, as suites of an evaluation take it."""

from __future__ import annotations

import torch
from torch import nn

from model.quantize import bin_centres
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


def small_resnet(held: Held, name: str = "net", says: int | None = None) -> Baseline:
    """Of digits: only its last layer has learnt, by least squares from the held rows, which is
    enough to be right about many; ``says``: the class that it always says instead."""
    config = ResNetConfig(
        input_shape=(1, 8, 8),
        n_classes=10,
        levels=17,
        stages=(ResNetStage(blocks=1, width=8, stride=2),),
    )
    classifier = ResNetClassifier(config).eval()
    images = held.known.images
    *layers, head = classifier.net
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        x = classifier.normalize(bin_centres(torch.from_numpy(images.pixels), config.levels))[0]
        features = nn.functional.pad(nn.Sequential(*layers)(x), (0, 1), value=1.0)
        wanted = nn.functional.one_hot(torch.from_numpy(images.labels), 10).float()
        found = torch.linalg.lstsq(features, wanted).solution
        head.weight.copy_(found[:-1].T)
        head.bias.copy_(found[-1])
        if says is not None:
            head.bias[says] += 1e6
    return Baseline(name=name, kind="resnet", classifier=classifier, record=held.model.record)
