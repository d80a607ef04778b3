"""What a job reads, in short: the same until a file changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.train.pieces import images, png, store, write
from train.chunks import inputs_of
from train.data import open_data


def folder(root: Path) -> Path:
    for name in ("cat/0.png", "dog/0.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(png(1))
    return root


def tables(root: Path) -> Path:
    for name in ("a.parquet", "b.parquet"):
        write(root / name, images(0, 4))
    return root


@pytest.mark.parametrize("make", [folder, tables])
@pytest.mark.parametrize("far", [False, True])
def test_changes_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, far: bool
) -> None:
    assert callable(make)
    root = make(tmp_path / "set")
    if far:
        store(monkeypatch, tmp_path)
    spec = "store://set" if far else str(root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    first = inputs_of(open_data(spec))
    total = sum(path.stat().st_size for path in files)
    assert {**first, "sha256": ""} == {"data": spec, "files": 2, "bytes": total, "sha256": ""}
    assert inputs_of(open_data(spec)) == first
    os.utime(files[0], ns=(0, 1))
    touched = inputs_of(open_data(spec))
    assert (touched == first) == far, "stores change times without a change"
    files[0].write_bytes(files[0].read_bytes() + b"PAR1" * (make is folder))
    if make is folder:
        assert inputs_of(open_data(spec)) not in (first, touched)
    files[0].rename(files[0].with_stem("c"))
    assert inputs_of(open_data(spec)) not in (first, touched)


def test_a_file_that_has_gone_counts(tmp_path: Path) -> None:
    rows = open_data(str(folder(tmp_path)))
    first = inputs_of(rows)
    (tmp_path / "cat" / "0.png").unlink()
    gone = inputs_of(rows)
    assert gone["files"] == 2
    assert gone["bytes"] == len(png(1))
    assert gone["sha256"] != first["sha256"]


def test_sources_without_files() -> None:
    assert inputs_of(open_data("digits:test")) == {"data": "digits:test", "rows": 360}
