"""What a run will cost: exact counts, a trial that leaves no trace, and words for both."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.classifier import GenerativeClassifier
from model.compiling import CompilerError
from model.config import FlowConfig, StageConfig
from service.cli import main
from train.baselines import ResNetClassifier, matched_resnet
from train.config import TrainConfig
from train.cost import (
    Cost,
    Expectation,
    describe_cost,
    describe_expectation,
    estimate,
    expected,
)
from train.learner import FlowLearner
from train.recipes import RecipeError
from train.run import train_new

CONFIG = TrainConfig(recipe="x", data="x", epochs=3, batch_size=4)


def network(means_rank: int = 0) -> GenerativeClassifier:
    """1@8 -> 4@4; two conv couplings of width 5; three classes; dropout to use random numbers."""
    stage = StageConfig(downsample="haar", blocks=2, width=5)
    flow = FlowConfig(input_shape=(1, 8, 8), n_classes=3, stages=(stage,), dropout=0.5)
    if means_rank:
        flow = replace(flow, means="low-rank", means_rank=means_rank)
    return GenerativeClassifier(flow)


def test_counts_by_hand() -> None:
    cost = estimate(network())
    couplings = 2 * 16 * 9 * (2 * 5 + 5 * 5 + 5 * 4)
    dct = 2 * 4 * 4**3
    head = 3 * 64
    assert cost.multiply_adds == couplings + dct + head
    assert cost.flow_parameters == 2 * (9 * (10 + 25 + 20) + 5 + 5 + 4 + 4 + 4)
    assert cost.means_parameters == 3 * 64
    permutations, normalize, prior = 2 * 4 * 8, 2 * 1 * 4, 3 * 4
    weights = 4 * (cost.flow_parameters + cost.means_parameters)
    assert cost.weight_bytes == weights + permutations + normalize + prior


def test_the_gram_matrix_of_low_rank_means_is_not_counted() -> None:
    full, low_rank = estimate(network()), estimate(network(means_rank=2))
    assert low_rank.means_parameters == 3 * 4 + 3 * 2 + 2 * 60
    assert low_rank.multiply_adds - full.multiply_adds == (3 * 4 + 2 * 60 + 3 * 2) - 3 * 64


@pytest.fixture
def trained() -> GenerativeClassifier:
    classifier = network(means_rank=2)
    classifier.flow.initialise(torch.rand(8, 1, 8, 8))
    classifier(torch.rand(2, 1, 8, 8)).log_prob.sum().backward()
    return classifier


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_disturbed(trained: GenerativeClassifier, training: bool) -> None:
    trained.train(training)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    gradients = [p.grad.clone() for p in trained.parameters() if p.grad is not None]
    torch.manual_seed(5)
    random_state = torch.get_rng_state()
    estimate(trained)
    expected(trained, CONFIG, rows=10)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training == training for module in trained.modules())
    after = trained.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    kept = [p.grad for p in trained.parameters() if p.grad is not None]
    assert all(torch.equal(one, two) for one, two in zip(gradients, kept, strict=True))


@pytest.mark.parametrize(("tick", "a_step"), [(7, 3.5), (30, 30.0)])
def test_the_expectation_is_of_the_whole_run(
    trained: GenerativeClassifier, monkeypatch: pytest.MonkeyPatch, tick: int, a_step: float
) -> None:
    """By a clock that advances so many seconds at each look: two timed steps between two looks, or
    none but the first where that took long."""
    ticks: Iterator[float] = iter(range(0, 100 * tick, tick))
    monkeypatch.setattr("train.cost._now", lambda device: next(ticks))
    found = expected(trained, CONFIG, rows=10)
    assert found.steps == 3 * 3
    assert found.seconds == pytest.approx(9 * a_step)
    assert found.batch_size == 4
    assert found.data_bytes == 10 * 64
    assert (found.device, found.threads) == ("cpu", torch.get_num_threads())


def test_memory_is_that_of_the_process(trained: GenerativeClassifier) -> None:
    """A peak never falls, so it covers whatever is held while the trial runs."""
    first = expected(trained, CONFIG, rows=10).peak_bytes
    status = Path("/proc/self/status").read_text()
    resident = 1024 * int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
    more = 5 * 10**7  # beyond all that was held so far
    held = torch.ones(first - resident + more, dtype=torch.uint8)
    assert first + more / 2 < expected(trained, CONFIG, rows=10).peak_bytes
    assert len(held)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"recompute": True},
        {"ema": 0.9},
        {"beta": 0.0},
        {"beta": float("inf")},
        {"kind": "resnet"},
    ],
)
def test_every_kind_of_run_can_be_tried(
    trained: GenerativeClassifier, changes: dict[str, Any]
) -> None:
    config = replace(CONFIG, **changes)
    resnet = ResNetClassifier(matched_resnet(trained.config))
    found = expected(resnet if config.kind == "resnet" else trained, config, rows=2)
    assert found.seconds > 0
    assert not trained.flow.recompute


@pytest.mark.parametrize(
    ("rows", "changes", "seen"),
    [(2000, {}, [1024]), (10, {}, [10]), (2000, {"init": "a bundle"}, [])],
)
def test_the_trial_initialises_as_a_run_does(
    trained: GenerativeClassifier,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    changes: dict[str, Any],
    seen: list[int],
) -> None:
    """It passes more images at once than a step does, so the peak of memory may be there."""
    found: list[int] = []
    monkeypatch.setattr(FlowLearner, "initialise", lambda _, pixels: found.append(len(pixels)))
    expected(trained, replace(CONFIG, **changes), rows=rows)
    assert found == seen


def main_memory() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    return caught.value


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), main_memory()])
def test_too_little_memory_has_a_remedy(
    trained: GenerativeClassifier, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    monkeypatch.setattr("train.cost._trial", failing(error))
    with pytest.raises(RecipeError, match=r"^batch size 4: .* choose a smaller --batch-size"):
        expected(trained, CONFIG, rows=2)


def test_another_error_of_a_trial_stays(
    trained: GenerativeClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.cost._trial", failing(RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError, match=r"^a fault of ours$"):
        expected(trained, CONFIG, rows=2)


def test_a_trial_that_fails_comes_after_the_counts_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("train.cost._trial", failing(torch.OutOfMemoryError("out of memory")))
    config = TrainConfig(recipe="digits", data="digits", epochs=1)
    with pytest.raises(RecipeError, match="more memory than there is on"):
        train_new(config, tmp_path / "run")
    assert "multiply-adds an image\n" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_a_compiler_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("train.run.check_compiler", failing(CompilerError("no compiler")))
    words = ["--data", "digits", "--recipe", "digits", "--compile", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["oodgate", "train", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: no compiler"
    assert not (tmp_path / "run").exists()


COST = Cost(
    flow_parameters=455_812,
    means_parameters=7_840,
    multiply_adds=28_524_000,
    weight_bytes=1_900_000,
)
EXPECTATION = Expectation(
    steps=12_000,
    batch_size=128,
    seconds=1260.0,
    peak_bytes=600_000_000,
    data_bytes=47_040_000,
    device="cpu",
    threads=1,
)


def test_each_description_is_a_plain_line() -> None:
    assert describe_cost(COST) == (
        "456 k parameters in the flow and 7.84 k in class means, 28.5 M multiply-adds an image"
    )
    assert describe_expectation(EXPECTATION) == (
        "12,000 steps of 128 images: about 21 minutes and 0.6 GB on cpu (1 thread)"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 0.2}, "about 1 second and"),
        ({"seconds": 119.0}, "about 119 seconds and"),
        ({"seconds": 400.0}, "about 6.7 minutes and"),
        ({"seconds": 9000.0}, "about 2.5 hours and"),
        ({"seconds": 1e6}, "about 12 days and"),
        ({"peak_bytes": 12_345_678_900}, "and 12.3 GB on cpu"),
        ({"threads": 2}, "on cpu (2 threads)"),
        ({"device": "GPU X"}, "0.6 GB on GPU X, beside under 0.1 GB of images"),
        ({"device": "GPU X", "data_bytes": 2 * 10**9}, "on GPU X, beside 2.0 GB of images"),
    ],
)
def test_words_for_time_and_memory(changes: dict[str, object], words: str) -> None:
    assert words in describe_expectation(replace(EXPECTATION, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 parameters"),
        (950, "950 parameters"),
        (999_700, "1.00 M"),
        (55_400_000, "55.4 M"),
        (6_920_000_000, "6.92 G"),
    ],
)
def test_words_for_counts(number: int, words: str) -> None:
    cost = replace(COST, flow_parameters=number)
    assert describe_cost(cost).startswith(words)
