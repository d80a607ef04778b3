"""The objective against its formula, at every kind of beta."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.classifier import ClassifierOutput, GenerativeClassifier
from model.config import FlowConfig, StageConfig
from train.objective import ib_loss

LABELS = torch.tensor([0, 2, 1, 1, 0])


@pytest.fixture
def model(float64: None) -> GenerativeClassifier:
    stage = StageConfig(downsample="haar", blocks=2, width=4)
    classifier = GenerativeClassifier(
        FlowConfig(input_shape=(1, 4, 4), n_classes=3, stages=(stage,), mu_init=1.0)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return classifier


@pytest.fixture
def output(model: GenerativeClassifier) -> ClassifierOutput:
    torch.manual_seed(1)
    x: Tensor = torch.rand(5, 1, 4, 4)
    result: ClassifierOutput = model(x)
    return result


def terms(model: GenerativeClassifier, output: ClassifierOutput) -> tuple[Tensor, Tensor]:
    """L_X and L_Y as model.md writes them: with distances, constants dropped."""
    distances = (
        (output.z[:, None] - model.class_means.of(torch.arange(model.config.n_classes)))
        .square()
        .sum(2)
    )
    joint = -distances / 2 + model.log_prior
    l_x = -(joint.logsumexp(1) + output.ladj).mean() / 16
    l_y = -joint.log_softmax(1)[torch.arange(5), LABELS].mean()
    return l_x, l_y


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 32.0, 1e300])
def test_the_loss_is_its_formula(
    model: GenerativeClassifier, output: ClassifierOutput, beta: float
) -> None:
    l_x, l_y = terms(model, output)
    found = ib_loss(output, LABELS, beta)
    torch.testing.assert_close(found.l_x, l_x)
    torch.testing.assert_close(found.l_y, l_y)
    torch.testing.assert_close(found.total, l_x / (1 + beta) + l_y * (beta / (1 + beta)))


def test_an_infinite_beta_leaves_the_class_loss(
    model: GenerativeClassifier, output: ClassifierOutput
) -> None:
    torch.testing.assert_close(ib_loss(output, LABELS, math.inf).total, terms(model, output)[1])


@pytest.mark.parametrize("beta", [0.0, 1.0, math.inf])
def test_gradients_flow(model: GenerativeClassifier, output: ClassifierOutput, beta: float) -> None:
    ib_loss(output, LABELS, beta).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_term_of_weight_zero_cannot_spoil_the_sum(output: ClassifierOutput) -> None:
    """The density of a plain classifier may overflow, and its loss is still a number."""
    wild = ClassifierOutput(
        logits=output.logits, log_prob=output.log_prob * math.inf, z=output.z, ladj=output.ladj
    )
    assert ib_loss(wild, LABELS, math.inf).total.isfinite()
    assert not ib_loss(wild, LABELS, 1.0).total.isfinite()


def test_label_smoothing_mixes_with_the_uniform_label(output: ClassifierOutput) -> None:
    plain = ib_loss(output, LABELS, math.inf).total
    uniform = -output.logits.log_softmax(1).mean()
    smoothed = ib_loss(output, LABELS, math.inf, label_smoothing=0.1).total
    torch.testing.assert_close(smoothed, 0.9 * plain + 0.1 * uniform)
