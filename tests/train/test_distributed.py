"""What the command says where training on Ray cannot begin, or ends with an error of a worker.

With a real Ray: ``tests/integration/test_ray_train.py``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.compiling import CompilerError
from service.cli import build_app
from train import distributed
from train.cluster import ClusterError
from train.config import TrainConfig
from train.data import DataError
from train.distributed import Job, train_on_ray, work
from train.divergence import TrainingDivergedError
from train.loop import Interruptions, Stopped
from train.recipes import RecipeError
from train.run import resume, train_new
from train.state import Counters
from train.worker_failures import raise_final

TWO = TrainConfig(recipe="digits", data="digits", epochs=1, workers=2)
STOPPED = Stopped(counters=Counters(step=1), finished=False, figures={})


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    scratch = tmp_path / "run" / ".ray-1"
    scratch.mkdir(parents=True)
    return Job(config=TWO, out=tmp_path / "run", scratch=scratch, folder=Path.cwd(), stop_at=None)


def test_several_workers_train_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def train(config: TrainConfig, out: Path, stop_at: int | None, *, address: str) -> Stopped:
        asked.append((config, out, stop_at, address))
        return STOPPED

    monkeypatch.setattr(distributed, "train_on_ray", train)
    assert train_new(TWO, tmp_path, 3, address="here:1") is STOPPED
    run = {"schema_version": 1, "config": TWO.to_dict()}
    monkeypatch.setattr("train.run.read_run", lambda _: run)
    assert resume(tmp_path, address="there:2") is STOPPED
    assert asked == [(TWO, tmp_path, 3, "here:1"), (TWO, tmp_path, None, "there:2")]


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'oodgate\[serve\]'"):
        train_on_ray(TWO, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_address_is_of_no_use_to_one_process(tmp_path: Path) -> None:
    words = ["train", "--data", "digits", "--recipe", "digits", "--address", "here:1"]
    found = CliRunner().invoke(build_app(), [*words, "--out", str(tmp_path / "run")])
    assert isinstance(found.exception, RecipeError)
    assert "expected a run with --workers of 2 or more" in str(found.exception)


def test_nor_to_one_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"schema_version": 1, "config": replace(TWO, workers=1).to_dict()}
    monkeypatch.setattr("train.run.read_run", lambda _: run)
    with pytest.raises(RecipeError, match="--address here:1"):
        resume(tmp_path, address="here:1")


def test_what_a_worker_raised_reaches_the_user() -> None:
    diverged, lost = TrainingDivergedError("the loss is no longer finite"), RuntimeError("peer")
    with pytest.raises(TrainingDivergedError, match="no longer finite"):
        raise_final({1: diverged, 0: lost})
    with pytest.raises(DataError, match="first"):
        raise_final({1: diverged, 0: DataError("first")})
    for final in (
        RecipeError("no memory"),
        CompilerError("no compiler"),
        ClusterError("no folder"),
    ):
        with pytest.raises(type(final)):
            raise_final({0: lost, 1: final})
    raise_final({0: lost})


def test_a_worker_that_does_not_see_the_folder(job: Job) -> None:
    job.scratch.rmdir()
    with pytest.raises(ClusterError, match="expected a folder that all machines"):
        work({"job": job})


def test_the_first_signal_asks_and_the_second_does_not_wait(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = Interruptions()
    distributed._pass_on(noted, job)
    assert not any(job.scratch.iterdir())
    for _ in range(2):
        noted.times = 1
        distributed._pass_on(noted, job)
        assert (job.scratch / distributed.STOP_FILE).exists()
    assert capsys.readouterr().err.count("stopping the workers") == 1
    noted.times = 2
    with pytest.raises(ClusterError, match="--resume --out"):
        distributed._pass_on(noted, job)


def test_what_the_first_worker_prints_is_shown_once(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    output = job.scratch / "output"
    output.write_text("before\n")

    def fit() -> Stopped:
        with output.open("a") as file:
            file.write("training: 1 of 2\n")
        return STOPPED

    assert distributed._watched(fit, job) is STOPPED
    assert capsys.readouterr().err == "training: 1 of 2\n"
