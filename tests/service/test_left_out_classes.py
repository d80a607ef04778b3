"""Classes left out of training: calibrated without their rows, and said on the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.bundle import Bundle
from tests.service.conftest import QUICK
from train.data import open_data
from train.left_out import left_out_of
from train.run import train_new

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def without_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the digits but for 3 and 8; read only."""
    out = tmp_path_factory.mktemp("without") / "digits"
    assert train_new(replace(QUICK, leave_out=("3", "8")), out).finished
    return out


def count(data: str) -> int:
    return sum(row.label in (3, 8) for row in open_data(data))


def test_calibrated_on_rows_of_known_classes(
    oodgate: Run, without_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    words = ("--data", "digits", "--test", "digits:test", "--out", out)
    code, said, err = oodgate("calibrate", without_dir, *words)
    assert code == 0, err
    assert f"left out of training: 3, 8: {count('digits')} rows of digits not used\n" in said
    assert "training data: using the rows held out from training" in said
    assert f"3, 8: {count('digits:test')} rows of digits:test not used\n" in said
    made = Bundle.load(out)
    assert made.class_labels == tuple("01245679")
    assert made.manifest.metrics["test"]["rows"] == 360 - count("digits:test")
    assert left_out_of(made.manifest.training) == ("3", "8")
    _, card, _ = oodgate("inspect", out)
    assert "\nleft out       3, 8\n" in card


def test_a_bundle_is_calibrated_anew_without_them(
    oodgate: Run, without_dir: Path, tmp_path: Path
) -> None:
    assert oodgate("calibrate", without_dir, "--data", "digits", "--out", tmp_path / "one")[0] == 0
    words = ("calibrate", tmp_path / "one", "--data", "digits:test", "--out", tmp_path / "two")
    code, said, err = oodgate(*words)
    assert code == 0, err
    assert f"3, 8: {count('digits:test')} rows of digits:test not used\n" in said


def test_nothing_is_said_where_nothing_was_left_out(
    oodgate: Run, checkpoint_dir: Path, tmp_path: Path
) -> None:
    code, said, _ = oodgate(
        "calibrate", checkpoint_dir, "--data", "digits", "--out", tmp_path / "o"
    )
    assert code == 0
    assert "left out" not in said
    assert "left out" not in oodgate("inspect", tmp_path / "o")[1]


def test_a_class_that_is_not_there(oodgate: Run, tmp_path: Path) -> None:
    words = ("--recipe", "digits", "--data", "digits", "--leave-out", "1", "--leave-out", "ten")
    code, _, err = oodgate("train", *words, "--out", tmp_path / "run")
    assert code == 2
    assert "error: digits: cannot leave out ['ten']: expected classes of the data" in err
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_keeps_its_classes(oodgate: Run, without_dir: Path) -> None:
    code, _, err = oodgate("train", "--resume", "--leave-out", "1", "--out", without_dir)
    assert code == 2
    assert "--resume goes on with the settings of the run: give only --out" in err
