"""A run that goes on where it stopped ends as one that was left alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import CheckpointError
from tests.train.tiny import STEPS, TINY, assert_same_weights, history
from train.loop import HISTORY_FILE, STATE_FILE
from train.recipes import RecipeError
from train.run import resume, train_new
from train.run_file import RUN_FILE, read_run

pytestmark = pytest.mark.usefixtures("tiny_recipe")


@pytest.mark.parametrize("stop_at", [[0], [1], [6], [7, 12], [17]])
def test_a_resumed_run_ends_with_the_same_weights(
    undisturbed: Path, tmp_path: Path, stop_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stopped"
    first = train_new(TINY, out, stop_at=stop_at[0])
    assert not first.finished
    assert read_run(out)["progress"]["finished"] is False
    for step in stop_at[1:]:
        assert resume(out, stop_at=step).counters.step == step
    last = resume(out)
    assert last.finished
    assert last.counters.step == STEPS
    assert_same_weights(undisturbed, out)
    assert last.figures == read_run(undisturbed)["progress"]["last_epoch"]
    scores = (out / "train_scores.parquet").read_bytes()
    assert scores == (undisturbed / "train_scores.parquet").read_bytes()


def test_a_run_that_was_killed_before_it_saved_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    train_new(TINY, out, stop_at=3)
    (out / STATE_FILE).unlink()
    shutil.rmtree(out / "model")
    resume(out)
    assert_same_weights(undisturbed, out)


def test_resuming_a_finished_run_changes_nothing(undisturbed: Path) -> None:
    before = {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()}
    stopped = resume(undisturbed)
    assert stopped.finished
    assert stopped.figures == read_run(undisturbed)["progress"]["last_epoch"]
    assert stopped.figures
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9, "flip": True, "shift": 1, "precision": "bf16"},
        {"recompute": True},
        {"kind": "resnet", "ema": 0.9},
    ],
)
def test_a_resumed_run_of_other_settings_ends_with_the_same_weights(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    config = replace(TINY, epochs=2, **changes)
    assert train_new(config, tmp_path / "whole").finished
    train_new(config, tmp_path / "stopped", stop_at=7)
    assert resume(tmp_path / "stopped").finished
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_where_and_by_which_code_a_run_went_on_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was true when it began stays: hours on one device are not those of another."""
    out = tmp_path / "run"
    monkeypatch.setattr("train.run_facts.git_commit", lambda: "one")
    train_new(TINY, out, stop_at=2)
    monkeypatch.setattr("train.run_facts.git_commit", lambda: "other")
    monkeypatch.setattr("train.run_facts.device_name", lambda device: "another device")
    resume(out, stop_at=4)
    resume(out)
    run = read_run(out)
    assert run["git_commit"] == "one"
    assert run["device"] == "cpu"
    assert [part["git_commit"] for part in run["resumed"]] == ["other", "other"]
    assert [part["device"] for part in run["resumed"]] == ["another device"] * 2
    assert run["progress"]["finished"] is True


def test_half_a_line_of_the_log_is_forgotten(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    train_new(TINY, out, stop_at=13)
    with (out / HISTORY_FILE).open("a") as log:
        log.write('{"epoch": 3, "st')
    resume(out)
    assert [line["epoch"] for line in history(out)] == [1, 2, 3]


@pytest.mark.parametrize("line", ["no json", "{}", "[]", '{"step": null}'])
def test_a_log_of_something_else_is_refused(line: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_new(TINY, out, stop_at=2)
    (out / HISTORY_FILE).write_text(line + "\n")
    with pytest.raises(CheckpointError, match=r"history.jsonl: not the log of a run"):
        resume(out)


def test_a_log_of_another_run_does_not_become_this_one_s(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_new(replace(TINY, epochs=1), out)
    (out / RUN_FILE).unlink()
    (out / STATE_FILE).unlink()
    train_new(replace(TINY, epochs=1), out)
    assert [line["epoch"] for line in history(out)] == [1]


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("train.loop.Trainer.run", torch.OutOfMemoryError("CUDA")),
        ("train.loop.Trainer.run", RuntimeError("DefaultCPUAllocator: can't allocate memory")),
        ("train.state._load_moments", torch.OutOfMemoryError("CUDA")),
    ],
)
def test_memory_that_runs_out_has_a_remedy(
    place: str, error: RuntimeError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, or going on: the state is whole, so its loss is not what is said."""
    train_new(TINY, tmp_path / "run", stop_at=2)
    monkeypatch.setattr(place, Mock(side_effect=error))
    with pytest.raises(RecipeError, match=r"batch size 200: .* choose a smaller --batch-size"):
        resume(tmp_path / "run")


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    """Without counters, and with those of another version."""
    out = tmp_path / "run"
    train_new(TINY, out, stop_at=2)
    state = load_file(out / STATE_FILE)
    for metadata in (None, {"step": "2"}, {"step": "x", "seconds": "0", "sums": "[]"}):
        save_file(state, out / STATE_FILE, metadata)
        with pytest.raises(CheckpointError, match=r"no state to resume from .*start a new run"):
            resume(out)
    assert "resumed" not in read_run(out)
