"""No treatment changes the network that is given, nor what it answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.classifier import ClassifierOutput, GenerativeClassifier
from model.config import FlowConfig, StageConfig
from tests.bench.contest import InferenceContest, Side, training_contest
from tests.bench.pairs import Pace
from tests.bench.ways import inference, layouts, serving
from train.config import TrainConfig
from train.learner import FlowLearner

CONFIG = FlowConfig(
    input_shape=(3, 8, 8), n_classes=2, stages=(StageConfig(downsample="haar", blocks=1, width=4),)
)
PACE = Pace(rounds=2, least_s=0)


@pytest.fixture
def ours() -> GenerativeClassifier:
    return GenerativeClassifier(CONFIG)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_layouts_are_as_built_and_what_differs(ours: GenerativeClassifier) -> None:
    plain = nn.Conv2d(3, 4, 3)
    assert layouts(ours) == ["as built", "contiguous", "channels last"]
    assert layouts(plain) == ["as built", "kernels channels last", "channels last"]


def test_every_way_answers_alike(ours: GenerativeClassifier, x: Tensor) -> None:
    before = [p.stride() for p in ours.parameters()]
    expected = ours(x).logits
    steps = [inference(ours, x, layout) for layout in layouts(ours)]
    for step in [*steps, serving(ours, x, compiled=False)]:
        found = step()
        assert isinstance(found, ClassifierOutput)
        torch.testing.assert_close(found.logits, expected)
        assert not found.logits.requires_grad
    assert [p.stride() for p in ours.parameters()] == before


def test_a_contest_without_the_compiler(ours: GenerativeClassifier, x: Tensor) -> None:
    contest = InferenceContest("tiny", Side(name="A", network=ours), _side(ours), x, PACE)
    eager, served = contest.eager("target 1"), contest.served("target 1", compiled=False)
    assert [timing.name.partition(",")[0] for timing in eager.timings] == ["A", "B"]
    names = [timing.name for timing in served.timings]
    assert names == ["A, eager, as built", "B, as served by default"]


def test_a_compiler_that_fails_is_named(
    ours: GenerativeClassifier, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: nn.Module, **options: bool) -> None:
        def forward(x: Tensor) -> None:
            raise RuntimeError("no compiler\nat all")

        monkeypatch.setattr(self, "forward", forward)

    contest = InferenceContest("tiny", Side(name="A", network=ours), _side(ours), x, PACE)
    monkeypatch.setattr(nn.Module, "compile", failing)
    found = contest.compiled("", {"compiled": {}})
    assert "A, compiled, " in found.note
    assert "B, compiled, " in found.note
    assert "RuntimeError: no compiler" in found.note
    assert all("eager" in timing.name for timing in found.timings)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_training_contest(ours: GenerativeClassifier, x: Tensor, precision: str) -> None:
    config = TrainConfig.from_dict(
        {**TrainConfig(recipe="", data="").to_dict(), "precision": precision}
    )
    learners = {name: FlowLearner(ours, config) for name in ("A", "B")}
    before = ours.class_means.of(torch.arange(2)).clone()
    labels = torch.arange(4) % 2
    built, best = training_contest("tiny", learners, config, x, labels, PACE, "")
    names = [timing.name for timing in built.timings]
    assert names == ["A, eager, as built", "B, eager, as built"]
    assert [timing.name.partition(",")[0] for timing in best.timings] == ["A", "B"]
    assert torch.equal(ours.class_means.of(torch.arange(2)), before)


def _side(network: nn.Module) -> Side:
    return Side(name="B", network=network)
