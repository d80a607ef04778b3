"""The network passes through ``torch.compile`` whole, and answers the same."""

from __future__ import annotations

import pytest
import torch

from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig
from model.statistics import statistics

CONFIGS = {
    "full means": FlowConfig(
        input_shape=(1, 8, 8),
        n_classes=3,
        stages=(StageConfig(downsample="haar", blocks=2, width=4),),
    ),
    "every transform, low-rank means": FlowConfig(
        input_shape=(3, 8, 8),
        n_classes=3,
        stages=(
            StageConfig(downsample="coupling", subnet="entry", blocks=1, width=4),
            StageConfig(downsample="haar", subnet="bottleneck", blocks=1, width=4),
        ),
        means="low-rank",
        means_rank=2,
    ),
}


def perturbed(config: FlowConfig) -> GenerativeClassifier:
    torch.manual_seed(0)
    classifier = GenerativeClassifier(config)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return classifier.eval()


@pytest.mark.parametrize(
    ("name", "training"), [("full means", True), ("every transform, low-rank means", False)]
)
def test_without_a_break(name: str, training: bool) -> None:
    """One graph, whatever the batch; aot_eager traces backward too and needs no C++ compiler.

    Traced where it does not train, as in serving.
    """
    classifier = perturbed(CONFIGS[name]).train(training)
    compiled = torch.compile(classifier, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (1, 3):
        x = torch.rand(size, *classifier.config.input_shape)
        with torch.set_grad_enabled(training):
            found, expected = (net(x, traced=not training) for net in (compiled, classifier))
        torch.testing.assert_close(found.logits, expected.logits)
        torch.testing.assert_close(found.log_prob, expected.log_prob)
        if not training:
            (_, values), (_, wanted_values) = (
                statistics(output, classifier) for output in (found, expected)
            )
            torch.testing.assert_close(values, wanted_values)
        if training:
            gradients = torch.autograd.grad(
                found.log_prob.sum(), list(classifier.flow.parameters()), allow_unused=True
            )
            wanted = torch.autograd.grad(
                expected.log_prob.sum(), list(classifier.flow.parameters()), allow_unused=True
            )
            for one, other in zip(gradients, wanted, strict=True):
                torch.testing.assert_close(one, other)
