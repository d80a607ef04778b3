"""Fine-tuning: a trained model as the beginning of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import CheckpointError, load_model
from train.config import TrainConfig
from train.finetune import fine_tuned
from train.loop import STATE_FILE
from train.recipes import find_recipe
from train.run import resume, train_new
from train.run_file import read_run

DIGITS = tuple("0123456789")
FLOW = find_recipe("digits").flow_config(10, seed=0)


@pytest.mark.parametrize("inside", [".", "model"])
def test_the_flow_is_the_trained_one(checkpoint_dir: Path, inside: str) -> None:
    trained = load_model(checkpoint_dir / "model").classifier
    classifier = fine_tuned(checkpoint_dir / inside, replace(FLOW, n_classes=3), ("a", "b", "c"))
    for name, value in classifier.flow.state_dict().items():
        assert torch.equal(value, trained.flow.state_dict()[name]), name
    assert classifier.class_means.of(torch.arange(3)).shape == (3, 64)
    assert classifier.config.stages == trained.config.stages


def test_class_means_are_kept_for_the_same_classes_alone(checkpoint_dir: Path) -> None:
    index = torch.arange(10)
    trained = load_model(checkpoint_dir / "model").classifier.class_means.of(index)
    same = fine_tuned(checkpoint_dir, FLOW, DIGITS)
    assert torch.equal(same.class_means.of(index), trained)
    other = fine_tuned(checkpoint_dir, FLOW, DIGITS[::-1])
    distance = torch.pdist(other.class_means.of(index))
    torch.testing.assert_close(distance, torch.full_like(distance, FLOW.mu_init))
    low_rank = fine_tuned(checkpoint_dir, replace(FLOW, means="low-rank", means_rank=4), DIGITS)
    assert not torch.equal(low_rank.class_means.of(index), trained)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_may_be_another(checkpoint_dir: Path, dropout: float) -> None:
    assert load_model(checkpoint_dir / "model").classifier.config.dropout not in (0.0, 0.5)
    tuned = fine_tuned(checkpoint_dir, replace(FLOW, dropout=dropout), DIGITS)
    assert tuned.config.dropout == dropout


@pytest.mark.parametrize("change", [{"input_shape": (1, 16, 16)}, {"levels": 256}])
def test_images_of_another_shape_are_refused(
    checkpoint_dir: Path, change: dict[str, object]
) -> None:
    with pytest.raises(CheckpointError, match="choose the recipe it was trained by"):
        fine_tuned(checkpoint_dir, replace(FLOW, **change), DIGITS)  # type: ignore[arg-type]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a model"):
        fine_tuned(tmp_path, FLOW, DIGITS)


def test_a_run_begins_with_it_and_goes_on_without_it(checkpoint_dir: Path, tmp_path: Path) -> None:
    """Data-dependent initialisation is left out, or it would undo what the flow knows."""
    config = TrainConfig(
        recipe="digits",
        data="digits",
        epochs=1,
        batch_size=64,
        rows=100,
        init=str(checkpoint_dir),
        learning_rate=1e-12,
        dropout=0.5,
    )
    out = tmp_path / "tuned"
    assert not train_new(config, out, stop_at=1).finished
    moved = tmp_path / "elsewhere"
    out.rename(moved)
    assert resume(moved).finished
    trained = load_model(checkpoint_dir / "model").classifier.flow.state_dict()
    for name, value in load_model(moved / "model").classifier.flow.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=0, atol=1e-6)
    assert load_model(moved / "model").classifier.config.dropout == 0.5
    assert read_run(moved)["config"]["init"] == str(checkpoint_dir)
    assert read_run(moved)["rows"]["train"] == 100


def test_a_run_that_was_killed_before_it_saved_begins_with_it_again(
    checkpoint_dir: Path, tmp_path: Path
) -> None:
    config = TrainConfig(
        recipe="digits",
        data="digits",
        epochs=1,
        rows=64,
        init=str(checkpoint_dir),
        learning_rate=1e-12,
    )
    out = tmp_path / "tuned"
    train_new(config, out, stop_at=0)
    (out / STATE_FILE).unlink()
    assert resume(out).finished
    trained = load_model(checkpoint_dir / "model").classifier.flow.state_dict()
    for name, value in load_model(out / "model").classifier.flow.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=0, atol=1e-6)
