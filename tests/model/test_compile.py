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
    """One graph, whatever the batch; aot_eager traces backward too and needs no C++ compiler."""
    classifier = perturbed(CONFIGS[name]).train(training)
    compiled = torch.compile(classifier, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (1, 3):
        x = torch.rand(size, *classifier.config.input_shape)
        with torch.set_grad_enabled(training):
            found, expected = compiled(x), classifier(x)
        torch.testing.assert_close(found.logits, expected.logits)
        torch.testing.assert_close(found.log_prob, expected.log_prob)
        if training:
            gradients = torch.autograd.grad(
                found.log_prob.sum(), list(classifier.flow.parameters()), allow_unused=True
            )
            wanted = torch.autograd.grad(
                expected.log_prob.sum(), list(classifier.flow.parameters()), allow_unused=True
            )
            for one, other in zip(gradients, wanted, strict=True):
                torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_traced_pass_without_a_break(name: str) -> None:
    """What serving asks a compiled model for: the trace, and the statistics of it."""
    classifier = perturbed(CONFIGS[name])
    compiled = torch.compile(classifier, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (1, 3):
        x = torch.rand(size, *classifier.config.input_shape)
        with torch.inference_mode():
            found, expected = (net(x, traced=True) for net in (compiled, classifier))
            (names, values), (wanted_names, wanted) = (
                statistics(output, classifier) for output in (found, expected)
            )
        assert names == wanted_names
        torch.testing.assert_close(found.trace.ladjs, expected.trace.ladjs)
        torch.testing.assert_close(found.trace.mean_squares, expected.trace.mean_squares)
        torch.testing.assert_close(values, wanted, atol=1e-4, rtol=1e-4)
