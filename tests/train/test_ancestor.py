"""What trained the model that a run begins with is in its record, and not held out by it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import CheckpointError
from train.ancestor import BUNDLE_ROWS, recorded_fully
from train.config import TrainConfig
from train.run import resume, train_new
from train.run_file import ROWS_FILE, RUN_FILE, read_run

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
    """And the rows that trained it are in the record, also of a run that goes on."""
    source, out = request.getfixturevalue(folder), tmp_path / "run"
    train_new(replace(CONFIG, init=str(source)), out, stop_at=0)
    run = read_run(out)
    assert run["rows"] == {"train": 128, "fit": 215, "cal": 215, "ancestor": 1007 - 128}
    assert run["init"]["rows_recorded"] is True
    assert resume(out).finished
    assert read_run(out)["rows"] == run["rows"]
    # which a model that is begun with this one takes over, here all of them
    train_new(replace(CONFIG, init=str(out)), tmp_path / "next", stop_at=0)
    assert read_run(tmp_path / "next")["rows"] == run["rows"]
    assert recorded_fully(read_run(tmp_path / "next"))


def test_a_model_without_a_record_passes(checkpoint_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint_dir / "model", tmp_path / "alone")
    config = replace(CONFIG, init=str(tmp_path / "alone"), seed=1)
    train_new(config, tmp_path / "run", stop_at=0)
    assert not recorded_fully(read_run(tmp_path / "run"))
    train_new(replace(config, init=str(tmp_path / "run")), tmp_path / "next", stop_at=0)
    assert not recorded_fully(read_run(tmp_path / "next"))


def test_a_bundle_s_record_is_as_sealed(bundle_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_dir, tmp_path / "copy")
    rows = bytearray((copy / BUNDLE_ROWS).read_bytes())
    rows[0] ^= 1
    (copy / BUNDLE_ROWS).write_bytes(rows)
    with pytest.raises(CheckpointError, match=r"rows.bin is no record .*not as sealed.*: restore"):
        train_new(replace(CONFIG, init=str(copy)), tmp_path / "run")


@pytest.mark.parametrize("content", [b"short", None])
def test_a_run_without_its_record_does_not_go_on(content: bytes | None, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_new(CONFIG, out, stop_at=0)
    (out / ROWS_FILE).unlink()
    if content is not None:
        (out / ROWS_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"rows.bin is no record of the run's rows .*restore"):
        resume(out)


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
