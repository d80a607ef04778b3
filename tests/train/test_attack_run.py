"""The file of an attack: written and read back, and what is refused."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.data import DataError
from train.evaluation.attack_run import (
    UNTARGETED,
    AttackRun,
    read_attack_run,
    write_attack_run,
)


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    found: dict[str, Any] = {
        "images": random.random((3, 4, 1, 2, 2), np.float32),
        "labels": np.array([0, 1, 2]),
        "targets": np.array([UNTARGETED, 0, 1]),
    }
    return {**found, **changes}


def test_written_and_read_back(tmp_path: Path) -> None:
    run = AttackRun(**arrays())
    write_attack_run(tmp_path / "run.npz", run)
    back = read_attack_run(tmp_path / "run.npz")
    for name in ("images", "labels", "targets"):
        np.testing.assert_array_equal(getattr(back, name), getattr(run, name))


def test_targets_may_be_left_out(tmp_path: Path) -> None:
    found = arrays()
    np.savez(tmp_path / "run.npz", images=found["images"], labels=found["labels"])
    assert read_attack_run(tmp_path / "run.npz").targets.tolist() == [UNTARGETED] * 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": np.zeros((3, 4, 1, 2, 2))}, "images: found float64"),
        ({"images": np.zeros((3, 1, 2, 2), np.float32)}, "expected float32 (N, S, C, H, W)"),
        ({"images": np.zeros((3, 1, 1, 2, 2), np.float32)}, "expected at least one in two steps"),
        ({"images": np.zeros((0, 2, 1, 2, 2), np.float32)}, "expected at least one in two steps"),
        ({"images": np.full((3, 2, 1, 2, 2), 255, np.float32)}, "divide 8-bit ones by 255"),
        ({"images": np.full((3, 2, 1, 2, 2), np.nan, np.float32)}, "expected [0, 1]"),
        ({"labels": np.zeros(2, np.int64)}, "labels: found int64 (2,), expected int64 (3,)"),
        ({"targets": np.zeros(3)}, "targets: found float64 (3,), expected int64 (3,)"),
    ],
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "run.npz", **arrays(**changes))
    with pytest.raises(DataError) as refused:
        read_attack_run(tmp_path / "run.npz")
    assert told in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'run.npz'}: ")


def test_files_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "junk.npz").write_bytes(b"junk")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with (tmp_path / "pickled.npz").open("wb") as file:
        np.savez(file, **arrays(labels=np.array([{}, {}, {}])))
    cut = tmp_path / "cut.npz"
    cut.write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    for name in ("junk.npz", "one.npy", "other.npz", "pickled.npz", "cut.npz"):
        with pytest.raises(DataError, match=f"{name}: .*expected a .npz with images.*: write it"):
            read_attack_run(tmp_path / name)
    missing = tmp_path / "nothing.npz"
    with pytest.raises(DataError, match=f"^{missing}: No such file or directory; expected a .npz"):
        read_attack_run(missing)
    with pytest.raises(DataError, match="Is a directory; expected a"):
        read_attack_run(tmp_path)
    with pytest.raises(DataError, match=r"expected \.npz"):
        write_attack_run(tmp_path / "run.zip", AttackRun(**arrays()))


def test_one_flipped_byte(tmp_path: Path) -> None:
    """Wherever it is: refused in the same words, or nothing that matters."""
    path, run = tmp_path / "run.npz", AttackRun(**arrays())
    write_attack_run(path, run)
    whole = path.read_bytes()
    refusals = []
    for i in range(len(whole)):
        for mask in (0x01, 0x04):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ mask]) + whole[i + 1 :])
            try:
                back = read_attack_run(path)
            except DataError as error:
                refusals.append(error)
            else:
                np.testing.assert_array_equal(back.images, run.images)
                np.testing.assert_array_equal(back.labels, run.labels)
    told = [str(error) for error in refusals]
    assert all(one.startswith(f"{path}: ") and "expected" in one for one in told)
    causes = {type(error.__cause__) for error in refusals}
    assert {zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError} <= causes


def test_a_model_that_cannot_look_at_it() -> None:
    run = AttackRun(**arrays())
    run.check_fits((1, 2, 2), 3)
    with pytest.raises(DataError, match="expected an attack on a model of the same input"):
        run.check_fits((3, 2, 2), 3)
    with pytest.raises(DataError, match="labels: found 2, expected 0 to 1"):
        run.check_fits((1, 2, 2), 2)
