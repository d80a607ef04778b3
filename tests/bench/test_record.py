"""A run replaces the entries that it measured, once it has them whole, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bench.record import Record, setting


@dataclass(frozen=True)
class Number:
    value: int

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bench" / "model.json"


def values(path: Path) -> dict[str, list[int]]:
    entries = json.loads(path.read_bytes())
    return {name: [r["value"] for r in entry["results"]] for name, entry in entries.items()}


def test_entries_of_other_rows_stay(path: Path) -> None:
    Record(path).measure("a", {"quick": False}, [Number(1), Number(2)])
    Record(path).measure("b", {"quick": False}, [Number(3)])
    Record(path).measure("a", {"quick": False}, [Number(4)])
    assert values(path) == {"a": [4], "b": [3]}


def test_a_quick_run_replaces_no_other(path: Path) -> None:
    Record(path).measure("a", {"quick": False}, [Number(1)])
    Record(path).measure("a", {"quick": True}, [Number(2)])
    assert values(path) == {"a": [1], "a (quick)": [2]}


def test_a_failure_loses_nothing(path: Path) -> None:
    def failing() -> Iterator[Number]:
        yield Number(2)
        raise RuntimeError("out of memory")

    Record(path).measure("a", {"quick": False}, [Number(1)])
    with pytest.raises(RuntimeError, match="out of memory"):
        Record(path).measure("a", {"quick": False}, failing())
    assert values(path) == {"a": [1], "a (unfinished)": [2]}
    Record(path).measure("a", {"quick": False}, [Number(3)])
    assert values(path) == {"a": [3]}


def test_entries_of_others_stay(path: Path) -> None:
    first, second = Record(path), Record(path)
    first.measure("a", {"quick": False}, [Number(1)])
    second.measure("b", {"quick": False}, [Number(2)])
    assert values(path) == {"a": [1], "b": [2]}


@pytest.mark.parametrize("content", ["{", "[]", '{"threads": 2, "comparisons": []}'])
def test_another_file_is_not_written_over(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(SystemExit, match="not a record of this benchmark"):
        Record(path)
    assert path.read_text() == content


def test_a_setting_is_plain_data() -> None:
    found = setting(quick=True, seed=3)
    assert json.loads(json.dumps(found)) == found
    assert {"git_commit", "quick", "seed", "processor", "threads", "versions"} <= set(found)
