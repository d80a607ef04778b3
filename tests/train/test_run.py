"""A training run: what it writes, how it goes on, what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from calibration.rows import RowRecord, is_in
from calibration.table import logits_of, read_table
from model.checkpoint import CheckpointError, load_model
from model.classifier import GenerativeClassifier
from model.config import Means, StageConfig
from model.image import InputSpec
from model.scoring import score
from tests.train.tiny import STEPS, TINY, assert_same_weights, weights
from train.config import TrainConfig
from train.data import DataError
from train.divergence import TrainingDivergedError
from train.loop import HISTORY_FILE, STATE_FILE, Trainer
from train.recipes import RECIPES
from train.run import load_training_set, resume, train_new
from train.run_file import RUN_FILE, read_run
from train.validation import validate

pytestmark = pytest.mark.usefixtures("tiny_recipe")

PAIR = (
    StageConfig(downsample="haar", blocks=1, width=6),
    StageConfig(downsample="haar", blocks=1, width=6),
)


def test_the_same_settings_give_the_same_run(undisturbed: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    np.random.seed(99)
    train_new(TINY, tmp_path / "again")
    assert_same_weights(undisturbed, tmp_path / "again")
    train_new(replace(TINY, seed=1), tmp_path / "other")
    other = weights(tmp_path / "other")["class_means.weight"]
    assert not torch.equal(other, weights(undisturbed)["class_means.weight"])


def test_the_run_is_written_down(undisturbed: Path) -> None:
    run = read_run(undisturbed)
    assert TrainConfig.from_dict(run["config"]) == TINY
    assert run["architecture"] == load_model(undisturbed / "model").classifier.config.to_dict()
    assert run["classes"] == [str(digit) for digit in range(10)]
    assert run["rows"] == {"train": 1007, "fit": 215, "cal": 215}
    assert run["beta_times_dim"] == TINY.beta * 64
    assert set(run["versions"]) == {"python", "torch", "torchvision", "numpy"}
    assert run["device"]
    assert run["git_commit"] is None or len(run["git_commit"].removesuffix("+changes")) == 40
    progress = run["progress"]
    assert progress["finished"] is True
    assert progress["steps"] == STEPS
    assert set(progress["last_epoch"]) == {"loss", "bits_per_dim", "accuracy"}


def test_held_out_rows_are_recorded_and_not_trained_on(undisturbed: Path) -> None:
    rows = load_training_set(TINY, InputSpec(shape=(1, 8, 8), levels=17))
    content = (undisturbed / "rows.bin").read_bytes()
    record = RowRecord.from_bytes(content, read_run(undisturbed)["rows"])
    np.testing.assert_array_equal(rows.images.digests, record.train)
    assert not is_in(record.train, np.concatenate([record.fit, record.cal])).any()


def test_training_scores_are_those_of_the_model(undisturbed: Path) -> None:
    table = read_table(undisturbed / "train_scores.parquet")
    rows = load_training_set(TINY, InputSpec(shape=(1, 8, 8), levels=17))
    assert table["id"].to_pylist() == list(rows.images.ids)
    assert set(table["split"].to_pylist()) == {"train"}
    expected = score(load_model(undisturbed / "model").classifier, rows.images.pixels)
    np.testing.assert_allclose(logits_of(table), expected.logits, atol=1e-3)


def test_an_infinite_beta_is_written_as_a_word(tmp_path: Path) -> None:
    assert train_new(replace(TINY, beta=math.inf, epochs=1), tmp_path / "inf").finished
    run = json.loads((tmp_path / "inf" / RUN_FILE).read_text())
    assert run["config"]["beta"] == "inf"
    assert run["beta_times_dim"] == "inf"
    assert resume(tmp_path / "inf").finished


def test_a_plain_flow_has_class_means_that_learn(tmp_path: Path) -> None:
    assert train_new(replace(TINY, beta=0.0, epochs=1), tmp_path / "zero").finished
    means = weights(tmp_path / "zero")["class_means.weight"]
    start = RECIPES["tiny"].flow_config(10, seed=0)
    assert not torch.equal(means, GenerativeClassifier(start).state_dict()["class_means.weight"])


def diverging(monkeypatch: pytest.MonkeyPatch, at: int, spoil: Callable[[Trainer], None]) -> None:
    step = Trainer._train_step

    def spoiled(self: Trainer, number: int, *rest: object) -> None:
        if number == at:
            spoil(self)
        step(self, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_train_step", spoiled)


def overflow(trainer: Trainer) -> None:
    with torch.no_grad():
        next(trainer._learner.parameters()).fill_(math.inf)


@pytest.mark.parametrize("at", [2, STEPS - 1])
def test_a_diverged_run_keeps_its_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    diverging(monkeypatch, at, overflow)
    out = tmp_path / "run"
    with pytest.raises(TrainingDivergedError, match=r"last good state is .*--learning-rate"):
        train_new(TINY, out)
    state = load_file(out / STATE_FILE)
    assert all(value.isfinite().all() for value in state.values())
    kept = load_model(out / "model").classifier.state_dict()
    assert all(value.isfinite().all() for value in kept.values())


def test_a_state_that_is_saved_often_is_still_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved after every step, and found out between two looks at the loss."""
    monkeypatch.setattr(Trainer.__init__, "__kwdefaults__", {"world": None, "save_every_s": -1.0})
    diverging(monkeypatch, 2, overflow)
    with pytest.raises(TrainingDivergedError):
        train_new(TINY, tmp_path / "run")
    state = load_file(tmp_path / "run" / STATE_FILE)
    assert all(value.isfinite().all() for value in state.values())


def jumping(trainer: Trainer) -> None:
    """Weights that are numbers, and a loss that is far too high."""
    with torch.no_grad():
        for name, parameter in trainer._learner.named_parameters():
            parameter.mul_(1e3 if "class_means" in name else 1)


def test_a_loss_that_jumps_leaves_the_state_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved after every step, of which none may be one in doubt."""
    monkeypatch.setattr(Trainer.__init__, "__kwdefaults__", {"world": None, "save_every_s": -1.0})
    diverging(monkeypatch, 9, jumping)
    with pytest.raises(TrainingDivergedError, match="after a best of"):
        train_new(TINY, tmp_path / "run")
    means = load_file(tmp_path / "run" / STATE_FILE)["model.learner.classifier.class_means.weight"]
    assert means.abs().max() < 100
    assert weights(tmp_path / "run")["class_means.weight"].abs().max() < 100


def test_a_run_that_ends_in_doubt_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, STEPS - 1, jumping)
    with pytest.raises(TrainingDivergedError, match="rose far above its best"):
        train_new(TINY, tmp_path / "run")
    assert "progress" not in read_run(tmp_path / "run")


def test_a_run_that_is_stopped_in_doubt_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, 12, jumping)
    stopped = train_new(TINY, tmp_path / "run", stop_at=13)
    assert stopped.counters.step == 0
    assert weights(tmp_path / "run")["class_means.weight"].abs().max() < 100


def test_the_average_begins_with_what_training_begins_with(tmp_path: Path) -> None:
    train_new(replace(TINY, ema=0.9), tmp_path / "run", stop_at=0)
    assert weights(tmp_path / "run")["flow.transforms.0.mean"].abs().sum() > 0


@pytest.mark.parametrize("means", ["full", "low-rank"])
def test_figures_are_those_of_the_model_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, means: Means
) -> None:
    recipe = replace(RECIPES["tiny"], means=means, means_rank=2, stages=PAIR)
    monkeypatch.setitem(RECIPES, "tiny", recipe)
    out = tmp_path / "run"
    train_new(TINY, out)
    rows = load_training_set(TINY, InputSpec(shape=(1, 8, 8), levels=17))
    found = validate(load_model(out / "model").classifier, rows.fit_images)
    assert read_run(out)["progress"]["validation"] == pytest.approx(found, abs=1e-5)
    table = read_table(out / "train_scores.parquet")
    again = score(load_model(out / "model").classifier, rows.images.pixels)
    np.testing.assert_allclose(logits_of(table), again.logits, atol=1e-3)
    last = json.loads((out / HISTORY_FILE).read_text().splitlines()[-1])
    assert last["validation"] == pytest.approx(found, abs=1e-5)


def test_validation_rows_are_of_all_classes() -> None:
    rows = load_training_set(TINY, InputSpec(shape=(1, 8, 8), levels=17)).fit_images
    ordered = rows.take(np.argsort(rows.labels, kind="stable"))
    assert set(ordered.drawn(100, seed=0).labels) == set(range(10))
    assert ordered.drawn(1000, seed=0).ids == ordered.ids


def test_a_folder_that_holds_a_run_is_refused(undisturbed: Path) -> None:
    with pytest.raises(CheckpointError, match="already holds a run"):
        train_new(TINY, undisturbed)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"run\.json: not a training run"):
        resume(tmp_path)
    (tmp_path / RUN_FILE).write_text('{"schema_version": 9}')
    with pytest.raises(CheckpointError, match="schema_version 9: expected 1"):
        resume(tmp_path)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_new(TINY, out, stop_at=2)
    content = (out / STATE_FILE).read_bytes()
    (out / STATE_FILE).write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match="no state to resume from"):
        resume(out)


def image_folder(root: Path) -> Path:
    from train.data import open_data

    for row, _ in zip(open_data("digits"), range(60), strict=False):
        path = root / str(row.label) / Path(row.id).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.image)
    return root


def test_data_that_changed_is_refused(tmp_path: Path) -> None:
    data, out = image_folder(tmp_path / "images"), tmp_path / "run"
    train_new(replace(TINY, data=str(data)), out, stop_at=1)
    next(data.rglob("*.png")).unlink()
    with pytest.raises(DataError, match="has changed since the run"):
        resume(out)


def test_training_needs_labels(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "images") / "0"
    with pytest.raises(DataError, match="has no labels: expected a folder a class"):
        train_new(replace(TINY, data=str(data)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
