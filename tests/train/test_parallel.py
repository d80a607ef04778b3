"""Two processes that train together come to what one process comes to."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.tiny import weights
from train.loop import HISTORY_FILE, STATE_FILE
from train.recipes import RECIPES
from train.run import train_new
from train.run_file import read_run

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("gloo_worker.py")
SHARED = runpy.run_path(str(WORKER))
LAWS = SHARED["LAWS"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote: a run each of ``LAWS``, and their findings."""
    folder = tmp_path_factory.mktemp("two")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if sys.platform == "linux":
        env["GLOO_SOCKET_IFNAME"] = "lo"
    commands = [[sys.executable, str(WORKER), str(rank), str(folder)] for rank in range(2)]
    running = [
        subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    return folder


@pytest.fixture
def found(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "tiny", RECIPES["digits"])  # undone at the end
    SHARED["make_tiny_recipe"]()


def assert_close_runs(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", LAWS)
def test_two_processes_come_to_the_weights_of_one(folder: Path, tmp_path: Path, name: str) -> None:
    train_new(LAWS[name], tmp_path / "alone")
    assert_close_runs(tmp_path / "alone", folder / name)
    one, two = (read_run(run)["progress"] for run in (tmp_path / "alone", folder / name))
    assert two["steps"] == one["steps"] == 6
    for part in ("last_epoch", "validation"):
        for figure, value in one[part].items():
            np.testing.assert_allclose(two[part][figure], value, atol=1e-4)
    files = [{path.name for path in run.iterdir()} for run in (tmp_path / "alone", folder / name)]
    assert files[0] == files[1]


def test_both_processes_know_the_figures_of_all_images(
    folder: Path, found: list[dict[str, Any]]
) -> None:
    assert (
        found[0]["flow"] == found[1]["flow"] == read_run(folder / "flow")["progress"]["last_epoch"]
    )


def test_what_the_processes_tell_each_other(found: list[dict[str, Any]]) -> None:
    for told in found:
        assert told["sum"] == [3.0, 1e6 + 2e-12]
        assert told["any"] == [False, True, True]
        assert told["gradients"] == {"a": [3.0, 6.0], "b": [3.0, 4.0], "c": None}
        assert told["shared"] == [5.0, 5.0]
    assert [told["told"] for told in found] == [[False, True], [False, False]]


def test_a_stopped_run_goes_on_to_the_same_weights(
    folder: Path, found: list[dict[str, Any]]
) -> None:
    assert [told["steps"] for told in found] == [[0, 4, 6], [0, 4, 6]]
    first, second = weights(folder / "flow"), weights(folder / "resumed")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    lines = (folder / "resumed" / HISTORY_FILE).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_divergence_in_one_process_is_raised_in_both(
    folder: Path, found: list[dict[str, Any]]
) -> None:
    assert found[0]["diverged"] == found[1]["diverged"]
    assert "last good state is" in found[0]["diverged"]
    state = load_file(folder / "diverged" / STATE_FILE)
    assert all(value.isfinite().all() for value in state.values())
    assert all(value.isfinite().all() for value in weights(folder / "diverged").values())


def test_the_baseline_trains_in_two_processes_too(
    folder: Path, found: list[dict[str, Any]]
) -> None:
    assert found[0]["resnet"] == found[1]["resnet"]
    assert read_run(folder / "resnet")["progress"]["finished"] is True
