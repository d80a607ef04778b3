"""Tables in chunks: the same rows as in one piece, whatever is broken or far away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.train.pieces import flat, images, png, sent, store, write
from train import places, table_runs
from train.chunks import chunks_of
from train.data import DataError, Row, open_data
from train.parquet import Source


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_runs, "RUN_ROWS", 7)


def folder(tmp_path: Path, *, damaged: bool = False) -> Path:
    root = tmp_path / "set"
    write(root / "a.parquet", images(0, 12))
    write(root / "deep" / "b.parquet", images(12, 5))
    if damaged:
        damage(root / "a.parquet", 1)
    return root


def damage(path: Path, group: int) -> None:
    """Overwrite the images of one row group."""
    import pyarrow.parquet as pq

    column = pq.read_metadata(path).row_group(group).column(0)
    start = min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset)
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)


@pytest.mark.usefixtures("short_runs")
@pytest.mark.parametrize("far", [False, True])
def test_chunks_are_the_rows_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    root = folder(tmp_path)
    if far:
        store(monkeypatch, tmp_path)
    rows = open_data("store://set" if far else str(root))
    chunks = sent(rows)
    assert [len(chunk) for chunk in chunks] == [8, 4, 5]
    assert flat(chunks) == list(rows)
    assert [row.id for row in rows] == [f"{i}.png" for i in range(17)]
    assert [row.label for row in rows] == [i % 2 for i in range(17)] == list(rows.labels())
    assert [row.image for row in rows] == [png(i) for i in range(17)]
    assert len(rows) == 17


def test_small_row_groups_are_put_together(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", images(0, 1100), 100)
    assert [len(chunk) for chunk in sent(open_data(str(path)))] == [500, 500, 100]
    large = chunks_of(open_data(str(path)), 640)
    assert [len(list(chunk.read())) for chunk in large] == [700, 400]


def test_a_chunk_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    rows = open_data("set")
    chunks = chunks_of(rows)
    monkeypatch.chdir("/")
    assert sum(len(list(chunk.read())) for chunk in chunks) == len(rows)


def test_a_large_row_group_is_streamed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [{"bytes": random.bytes(20_000), "path": f"{i}"} for i in range(3000)]
    options = {"use_dictionary": False, "write_batch_size": 64}
    write(tmp_path / "x.parquet", pa.table({"image": rows}), 3000, **options)
    del rows
    before, most = pa.total_allocated_bytes(), 0
    (chunk,) = chunks_of(open_data(str(tmp_path)))
    for _ in chunk.read():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 20_000_000, "a third of the row group"


IDS: dict[str, tuple[list[str | None], list[str | None], list[str] | None]] = {
    "unique": (["a", "b", "c"], ["d", "e"], ["a", "b", "c", "d", "e"]),
    "twice in one file": (["a", "b", "a"], ["d", "e"], None),
    "twice in two files": (["a", "b", "c"], ["d", "a"], None),
    "one is missing": (["a", "b", None], ["d", "e"], None),
    "one is empty": (["a", "b", ""], ["d", "e"], None),
}


@pytest.mark.parametrize("case", IDS)
def test_ids_are_unique(tmp_path: Path, case: str) -> None:
    first, second, expected = IDS[case]
    write(tmp_path / "s" / "x.parquet", images(0, 3, first), 2)
    write(tmp_path / "s" / "d" / "y.parquet", images(3, 2, second), 2)
    places_of_rows = ["d/y.parquet#0", "d/y.parquet#1", *(f"x.parquet#{i}" for i in range(3))]
    found = [row.id for row in open_data(str(tmp_path / "s"))]
    assert sorted(found) == sorted(expected or places_of_rows)
    one = [row.id for row in open_data(str(tmp_path / "s" / "x.parquet"))]
    unique = len(set(first)) == 3 and all(first)
    assert one == (first if unique else [f"row/{i:08d}" for i in range(3)])


def test_paths_that_are_no_text_are_no_ids(tmp_path: Path) -> None:
    broken = pa.array([b"\xff", b"a"]).view(pa.string())
    image = pa.StructArray.from_arrays([pa.array([png(0), png(1)]), broken], ["bytes", "path"])
    write(tmp_path / "x.parquet", pa.table({"image": image}))
    rows = list(open_data(str(tmp_path / "x.parquet")))
    assert [(row.id, row.image) for row in rows] == [
        ("row/00000000", png(0)),
        ("row/00000001", png(1)),
    ]


def test_ids_are_settled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = Source._has_paths

    def counted(source: Source) -> bool:
        asked.append(source)
        return original(source)

    monkeypatch.setattr(Source, "_has_paths", counted)
    rows = open_data(str(folder(tmp_path)))
    assert not asked, "opening reads no paths"
    for _ in range(3):
        list(rows)
        chunks_of(rows)
    assert len(asked) == 1


@pytest.mark.usefixtures("short_runs")
@pytest.mark.parametrize("far", [False, True])
def test_a_broken_row_group_is_rows_with_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    root = folder(tmp_path, damaged=True)
    waits = store(monkeypatch, tmp_path) if far else []
    rows = open_data("store://set" if far else str(root))
    found = flat(sent(rows))
    lost = [row for row in found if row.error is not None]
    assert [row.id for row in lost] == [f"a.parquet#{i}" for i in range(4, 8)]
    assert all("a.parquet: not readable as Parquet: " in (row.error or "") for row in lost)
    assert {(row.image, row.label) for row in lost} == {(b"", None)}
    kept = [row.image for row in found if row.error is None]
    assert kept == [png(i) for i in range(17) if not 4 <= i < 8]
    assert bool(waits) == far


@pytest.mark.usefixtures("short_runs")
def test_a_file_that_has_gone_or_changed(tmp_path: Path) -> None:
    root = folder(tmp_path)
    rows = open_data(str(root))
    chunks = chunks_of(rows)
    (root / "deep" / "b.parquet").unlink()
    write(root / "a.parquet", images(0, 10))
    found = [row for chunk in chunks for row in chunk.read()]
    assert [row.id for row in found] == [
        *(f"{i}.png" for i in range(8)),
        *(f"a.parquet#{i}" for i in range(8, 12)),
        *(f"deep/b.parquet#{i}" for i in range(5)),
    ]
    assert "changed since it was listed" in (found[8].error or "")
    assert found[-1].error == ("deep/b.parquet: not readable as Parquet: No such file or directory")


def test_a_store_that_does_not_answer_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path)
    waits = store(monkeypatch, tmp_path)
    chunks = chunks_of(open_data("store://set"))
    (root / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"set/a.parquet cannot be reached after 4 tries"):
        list(chunks[0].read())
    assert waits == list(places.PAUSES)


def test_a_store_that_answers_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder(tmp_path) / "a.parquet"
    store(monkeypatch, tmp_path)
    rows = open_data("store://set")
    expected = list(rows)
    chunk = chunks_of(rows)[0]
    away = file.rename(tmp_path / "away")
    monkeypatch.setattr(places, "pause", lambda _: away.exists() and away.rename(file))
    assert list(chunk.read()) == expected[:12]


def test_rows_go_on_where_they_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waits = store(monkeypatch, tmp_path)
    starts: list[int] = []

    def start(skip: int) -> Iterator[int]:
        starts.append(skip)
        for i in range(skip, 5):
            if i and i % 2 == 0 and starts[-1] != i:
                raise OSError("connection reset")
            yield i

    assert list(places.resumed(places.Place("store://x"), "x", start)) == list(range(5))
    assert starts == [0, 2, 4]
    assert len(waits) == 2


def test_labels_that_cannot_be_read_are_a_data_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", images(0, 4))
    rows = open_data(str(path))
    path.unlink()
    with pytest.raises(DataError, match="not readable as Parquet: No such file"):
        list(rows.labels())


def test_a_file_of_other_columns_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", images(0, 4))
    write(tmp_path / "b.parquet", pa.table({"x": [1]}))
    with pytest.raises(DataError, match=r"columns x \(int64\)"):
        open_data(str(tmp_path))


def test_a_file_without_labels_among_others(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", images(0, 4))
    write(tmp_path / "b.parquet", images(4, 2).drop(["label"]))
    rows = open_data(str(tmp_path))
    assert [row.label for row in rows] == [0, 1, 0, 1, None, None] == list(rows.labels())
    assert isinstance(next(iter(rows)), Row)
