"""A sweep over beta as runs: which it makes, how it goes on, what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file

from model.checkpoint import CheckpointError
from tests.train.sweeping import FOLDERS, REPORT, STEPS, contents, points, run
from train import sweep_runs
from train.config import TrainConfig
from train.data import DataError, open_data
from train.divergence import TrainingDivergedError
from train.loop import Stopped
from train.recipes import RECIPES, RecipeError
from train.run import train_new
from train.run_file import read_run
from train.sweep_runs import beta_word, parse_betas

pytestmark = pytest.mark.usefixtures("sweep_recipe")


def test_every_run_and_every_file_is_there(sweep_dir: Path) -> None:
    assert {path.name for path in sweep_dir.iterdir()} == {*FOLDERS, *REPORT}
    for folder in FOLDERS:
        assert read_run(sweep_dir / folder)["progress"]["finished"]
    configs = [read_run(sweep_dir / folder)["config"] for folder in FOLDERS]
    assert [config["beta"] for config in configs] == [0.0, 1.0, "inf", RECIPES["tiny"].beta]
    assert [config["kind"] for config in configs] == ["flow", "flow", "flow", "resnet"]
    alike = [{k: v for k, v in c.items() if k not in ("beta", "kind")} for c in configs]
    assert all(config == alike[0] for config in alike)


def test_a_precision_is_of_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []

    def stopping(config: TrainConfig, folder: Path) -> Stopped:
        seen.append(config)
        return train_new(config, folder, stop_at=0)

    monkeypatch.setattr(sweep_runs, "train_new", stopping)
    with pytest.raises(typer.Exit):
        run(tmp_path / "sweep", precision="bf16")
    assert [config.precision for config in seen] == ["bf16"]
    assert RECIPES["tiny"].precision == "float32"


def test_a_finished_sweep_trains_nothing_and_says_the_same(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_runs, "train_new", pytest.fail)
    before = contents(copied)
    run(copied)
    assert contents(copied) == before
    said = [line for line in capsys.readouterr().err.splitlines() if " of 4)" in line]
    names = ("beta 0", "beta 1", "beta inf", "resnet")
    assert said == [f"{name} ({i} of 4): trained before" for i, name in enumerate(names, 1)]


def test_a_sweep_that_was_stopped_goes_on_to_the_same_result(
    sweep_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "stopped"

    def stopping(config: TrainConfig, folder: Path) -> Stopped:
        return train_new(config, folder, stop_at=3 if config.beta == 1 else None)

    monkeypatch.setattr(sweep_runs, "train_new", stopping)
    with pytest.raises(typer.Exit) as stopped:
        run(out)
    assert stopped.value.exit_code == 130
    said = capsys.readouterr().out
    assert said == "stopped at beta 1, step 3; the same command goes on from there\n"
    assert {path.name for path in out.iterdir()} == {"beta-0", "beta-1"}
    first = contents(out / "beta-0")

    monkeypatch.setattr(sweep_runs, "train_new", train_new)
    run(out)
    assert contents(out / "beta-0") == first
    assert read_run(out / "beta-1")["progress"]["steps"] == STEPS
    for folder in FOLDERS:
        ours, theirs = (
            load_file(root / folder / "model" / "weights.safetensors") for root in (out, sweep_dir)
        )
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), (folder, name)
    of_the_run = {"seconds": 0, "images_per_s": 0, "git_commit": None}
    expected = {name: point | of_the_run for name, point in points(sweep_dir).items()}
    assert {name: point | of_the_run for name, point in points(out).items()} == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 3}, "epochs is 12, expected 3"),
        ({"seed": 1}, "seed is 0, expected 1"),
        ({"data": "digits:train"}, "data is 'digits', expected 'digits:train'"),
        ({"recipe": "digits"}, "recipe is 'tiny', expected 'digits'"),
        ({"betas": "2", "epochs": 3}, "epochs is 12, expected 3"),
    ],
)
def test_runs_with_other_settings_are_refused(
    sweep_dir: Path, changes: dict[str, Any], named: str
) -> None:
    before = contents(sweep_dir)
    with pytest.raises(CheckpointError, match=f"of another sweep: .*{named}.*another --out"):
        run(sweep_dir, **changes)
    assert contents(sweep_dir) == before


def test_a_recipe_that_has_changed_is_refused(
    sweep_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPES["tiny"], mu_init=4.0))
    with pytest.raises(CheckpointError, match="another architecture than recipe tiny has now"):
        run(sweep_dir)


def test_test_rows_that_a_run_has_seen_are_dropped(copied: Path, tmp_path: Path) -> None:
    data = tmp_path / "mixed"
    for source, count in (("digits", 20), ("digits:test", 30)):
        for row, _ in zip(open_data(source), range(count), strict=False):
            path = data / str(row.label) / Path(row.id).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row.image)
    run(copied, test=str(data), betas="1", resnet=False)
    content = json.loads((copied / "sweep.json").read_text())
    assert content["rows"] == {"test": 30, "test_dropped": 20, "fit": 215}
    for name, point in points(copied).items():  # nothing is kept that other rows gave
        assert point["accuracy"] * 0.3 == pytest.approx(round(point["accuracy"] * 0.3)), name


def test_a_test_set_of_no_use_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="each of its 1437 rows is among those of digits"):
        run(tmp_path / "out", test="digits")
    (tmp_path / "plain").mkdir()
    row = next(iter(open_data("digits:test")))
    (tmp_path / "plain" / "a.png").write_bytes(row.image)
    with pytest.raises(DataError, match="1 of 1 rows have no label"):
        run(tmp_path / "out", test=str(tmp_path / "plain"))
    assert not (tmp_path / "out").exists()


def test_a_beta_that_diverges_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def diverging(config: TrainConfig, folder: Path) -> Stopped:
        if config.beta == 1:
            raise TrainingDivergedError("the loss is nan")
        return train_new(config, folder)

    monkeypatch.setattr(sweep_runs, "train_new", diverging)
    run(tmp_path / "out", epochs=1, betas="1,inf", resnet=False)
    assert "beta 1 is left out: the loss is nan" in capsys.readouterr().err
    assert tuple(points(tmp_path / "out")) == ("beta-inf",)
    assert "beta 1 is missing: the loss is nan" in (tmp_path / "out" / "sweep.md").read_text()


def test_betas() -> None:
    assert parse_betas("inf,0, 0.5,16") == (0.0, 0.5, 16.0, math.inf)
    assert [beta_word(beta) for beta in parse_betas("-0,0.5,16,inf")] == ["0", "0.5", "16", "inf"]
    for text in ("", "1,x", "-1", "nan", "1,1.0"):
        with pytest.raises(RecipeError, match=r"expected different numbers from 0 to inf"):
            parse_betas(text)


#: `python -m train.sweep` with what only serving needs kept from being imported.
WITHOUT_A_SERVER = """
import runpy, sys

for name in ("ray", "fastapi", "grpc", "prometheus_client"):
    sys.modules[name] = None
sys.argv = ["train.sweep", *sys.argv[1:]]
runpy.run_module("train.sweep", run_name="__main__", alter_sys=True)
"""


@pytest.mark.integration
def test_the_command_needs_no_server(sweep_dir: Path) -> None:
    words = "--data digits --test digits:test --recipe digits --betas 1,x --out"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_A_SERVER, *words.split(), str(sweep_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.startswith("error: betas '1,x': expected different numbers")
