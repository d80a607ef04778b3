"""What trained the model that a run begins with may not be held out to calibrate the run on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import CheckpointError
from train.config import TrainConfig
from train.run import train_new
from train.run_file import ROWS_FILE, RUN_FILE

CONFIG = TrainConfig(recipe="digits", data="digits", epochs=1, batch_size=128, rows=128)


@pytest.mark.parametrize("kind", ["run", "model of a run", "bundle", "model of a bundle"])
def test_rows_that_trained_it_are_refused(
    kind: str, checkpoint_dir: Path, bundle_dir: Path, tmp_path: Path
) -> None:
    folder = bundle_dir if "bundle" in kind else checkpoint_dir
    source = folder / "model" if "model" in kind else folder
    with pytest.raises(CheckpointError, match=r"was trained on \d+ of the 430 rows .* --seed"):
        train_new(replace(CONFIG, init=str(source), seed=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folder", ["checkpoint_dir", "bundle_dir"])
def test_the_same_rows_held_out_are_new_to_it(
    folder: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = request.getfixturevalue(folder)
    train_new(replace(CONFIG, init=str(source)), tmp_path / "run", stop_at=0)
    assert (tmp_path / "run" / ROWS_FILE).exists()


def test_a_model_without_a_record_passes(checkpoint_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint_dir / "model", tmp_path / "alone")
    config = replace(CONFIG, init=str(tmp_path / "alone"), seed=1)
    train_new(config, tmp_path / "run", stop_at=0)
    assert (tmp_path / "run" / ROWS_FILE).exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [(ROWS_FILE, b"short"), (RUN_FILE, b"[]"), (RUN_FILE, b"{}"), (RUN_FILE, b"no json")],
)
def test_a_damaged_record_is_refused(
    file: str, content: bytes, checkpoint_dir: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(checkpoint_dir, tmp_path / "copy")
    (copy / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no record of training rows .*: restore"):
        train_new(replace(CONFIG, init=str(copy)), tmp_path / "run")
