"""What is kept of an evaluation on its way: gone on with by the same command alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from train.data import DataError
from train.evaluation.cells import RECORD_FILE, Cells, file_name, forget, work_folder

RECORD = {"bundle": "digits 1", "limit": None, "names": ("a", "b"), "seed": 0}


def test_cells_are_found_again(tmp_path: Path) -> None:
    cells = Cells.open(tmp_path / "work" / "suite", RECORD)
    assert cells.read("snow-1") is None
    cells.write("snow-1", {"x": 0.1 + 0.2, "y": [None, "≤"]})
    again = Cells.open(tmp_path / "work" / "suite", RECORD)
    assert again.names() == ["snow-1"]
    assert again.read("snow-1") == {"x": 0.1 + 0.2, "y": [None, "≤"]}


def test_names_of_files_are_apart() -> None:
    long = "é" * 300
    words = [("a b", "c"), ("a", "b c"), ("a-b", "c"), (long,), (f"{long}é",), ("/",), ("../x",)]
    words.append(("\udcff",))  # a folder's name that is no UTF-8
    names = {file_name(*one) for one in words}
    assert len(names) == len(words)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9.-]{1,80}", name)
        assert not name.startswith(".")


def test_half_a_cell_is_none(tmp_path: Path) -> None:
    """What a kill in the middle of writing leaves has another name."""
    cells = Cells.open(tmp_path / "suite", RECORD)
    (cells.folder / "snow-1.json.part").write_text('{"x": ')
    assert cells.names() == []
    assert Cells.open(cells.folder, RECORD).read("snow-1") is None


@pytest.mark.parametrize("part", ["", RECORD_FILE + ".part"])
def test_stopped_before_the_record(tmp_path: Path, part: str) -> None:
    (tmp_path / "suite").mkdir()
    if part:
        (tmp_path / "suite" / part).write_text("{")
    Cells.open(tmp_path / "suite", RECORD)
    assert json.loads((tmp_path / "suite" / RECORD_FILE).read_text())["seed"] == 0


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"limit": 50}, "limit there null, here 50: give the same command again"),
        ({"names": ("a",)}, 'names there ["a", "b"], here ["a"]'),
        ({"more": 1}, "more there null, here 1"),
    ],
)
def test_cells_of_another_record(tmp_path: Path, other: dict[str, object], said: str) -> None:
    folder = tmp_path / "suite"
    Cells.open(folder, RECORD).write("snow-1", {"x": 1})
    with pytest.raises(DataError) as refused:
        Cells.open(folder, {**RECORD, **other})
    assert said in str(refused.value)
    assert f"choose another --out, or delete {folder}" in str(refused.value)
    assert Cells.open(folder, RECORD).names() == ["snow-1"]


def test_files_that_are_no_cells(tmp_path: Path) -> None:
    for content in ("{", "[]"):
        folder = tmp_path / f"suite{content}"
        cells = Cells.open(folder, RECORD)
        (folder / "snow-1.json").write_text(content)
        with pytest.raises(DataError, match=r"snow-1.json is not what an evaluation has measured"):
            cells.read("snow-1")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.json").write_text("{}")
    with pytest.raises(DataError, match="is not what an evaluation has measured"):
        Cells.open(foreign, RECORD)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        Cells.open(tmp_path / "file" / "suite", RECORD)


def test_what_is_forgotten(tmp_path: Path) -> None:
    """The suite's cells and the empty folder above, nothing that is not ours."""
    work = work_folder(tmp_path / "report")
    assert work == tmp_path / "report.part"
    for suite in ("a", "b"):
        Cells.open(work / suite, RECORD).write("x", {})
    (work / "c").mkdir()
    (work / "c" / "mine.txt").write_text("kept")
    for suite in ("a", "c", "d"):
        forget(work, suite)
    assert sorted(path.name for path in work.iterdir()) == ["b", "c"]
    (work / "c" / "mine.txt").unlink()
    (work / "c").rmdir()
    forget(work, "b")
    assert list(tmp_path.iterdir()) == []
    forget(work, "b")
