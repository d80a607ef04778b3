"""Images that are files: in chunks, behind URLs, with odd names, and gone while a job runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.train.pieces import flat, png, sent, store
from train import folders, places
from train.chunks import chunks_of
from train.data import DataError, open_data


def classes(root: Path) -> Path:
    """5 images in 2 classes, and what is none."""
    for i, name in enumerate(["cat/0.png", "cat/a-b.PNG", "cat/a/1.png", "dog/0.png", "dog/1.jpg"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    for name in ("cat/notes.txt", "_left/x.png", ".hidden/x.png", "loose.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(png(9))
    return root


@pytest.mark.parametrize("scheme", ["path", "file", "store"])
def test_a_folder_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    root = classes(tmp_path / "set")
    if scheme == "store":
        store(monkeypatch, tmp_path)
    monkeypatch.setattr(folders, "CHUNK_FILES", 2)
    spec = {"path": str(root), "file": root.as_uri(), "store": "store://set"}[scheme]
    rows = open_data(spec)
    assert rows.class_labels == ("cat", "dog")
    chunks = sent(rows)
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert flat(chunks) == list(rows)
    assert [(row.id, row.label) for row in rows] == [
        ("cat/0.png", 0),
        ("cat/a/1.png", 0),
        ("cat/a-b.PNG", 0),
        ("dog/0.png", 1),
        ("dog/1.jpg", 1),
    ]
    assert [row.image for row in rows] == [png(i) for i in (0, 2, 1, 3, 4)]
    assert list(rows.labels()) == [0, 0, 0, 1, 1]
    assert chunks_of(rows)[-1] == chunks_of(rows)[1:][1]


@pytest.mark.parametrize("loose", [1, 5])
def test_images_beside_the_classes_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loose: int
) -> None:
    root = classes(tmp_path / "set")
    for i in range(1, loose):
        (root / f"loose-{i}.png").write_bytes(png(i))
    (root / "._loose.png").write_bytes(b"")
    assert len(open_data(str(root))) == 5
    told = {1: "'loose.png'", 5: "'loose-1.png', 'loose-2.png', 'loose-3.png' and 2 more"}[loose]
    assert capsys.readouterr().err == (
        f"{root}: images beside its class folders are passed over: {told}; move them into a class, "
        "or name them by a glob\n"
    )
    open_data(str(root / "dog"))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("batch", "sizes"), [(1, [4, 1]), (3, [5]), (4, [4, 1]), (9, [5])])
def test_chunks_are_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, sizes: list[int]
) -> None:
    rows = open_data(str(classes(tmp_path / "set")))
    monkeypatch.setattr(folders, "CHUNK_FILES", 4)
    chunks = [list(chunk.read()) for chunk in chunks_of(rows, batch)]
    assert [len(chunk) for chunk in chunks] == sizes
    assert flat(chunks) == list(rows)


@pytest.mark.parametrize("scheme", ["file", "store"])
def test_urls_without_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    (tmp_path / "set").mkdir()
    for i in range(2):
        (tmp_path / "set" / f"{i}.png").write_bytes(png(i))
    store(monkeypatch, tmp_path)
    url = "store://set" if scheme == "store" else (tmp_path / "set").as_uri()
    if scheme == "file":
        monkeypatch.undo()
    rows = open_data(url)
    assert rows.class_labels is None
    assert [(row.id, row.label, row.image) for row in flat(sent(rows))] == [
        ("0.png", None, png(0)),
        ("1.png", None, png(1)),
    ]
    (one,) = flat(sent(open_data(f"{url}/1.png")))
    assert (one.id, one.image) == ("1.png", png(1))


def test_a_glob_and_a_flat_folder_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / "0.png").write_bytes(png(0))
    monkeypatch.chdir(tmp_path)
    found = {spec: open_data(spec) for spec in ("set", "./set", "set/*.png", "set/0.png")}
    chunks = {spec: chunks_of(rows)[0] for spec, rows in found.items()}
    monkeypatch.chdir(root)
    here = open_data(".")
    monkeypatch.chdir("/")
    for chunk in chunks.values():
        assert [(row.id, row.image) for row in chunk.read()] == [("set/0.png", png(0))]
    assert [row.id for row in here] == ["0.png"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    root = classes(tmp_path / "set")
    rows = open_data(str(root))
    (root / "dog" / "0.png").unlink()
    (root / "cat" / "0.png").unlink()
    (root / "cat" / "0.png").mkdir()
    errors = {row.id: (row.error, row.image, row.label) for row in rows if row.error}
    assert errors == {
        "dog/0.png": ("cannot be read: No such file or directory", b"", 1),
        "cat/0.png": ("cannot be read: Is a directory", b"", 0),
    }
    assert len(list(rows)) == 5


def test_a_file_gone_from_a_store_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = classes(tmp_path / "set")
    waits = store(monkeypatch, tmp_path)
    rows = open_data("store://set")
    (root / "dog" / "0.png").unlink()
    with pytest.raises(DataError, match=r"set/dog/0.png cannot be reached after 4 tries"):
        list(rows)
    assert waits == list(places.PAUSES)


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/k\xffl"
    os.mkdir(folder)
    with open(folder + b"/\xe9.png", "wb") as file:
        file.write(png(7))
    rows = open_data(str(tmp_path))
    assert rows.class_labels == (r"k\xffl",)
    assert [(row.id, row.image) for row in flat(sent(rows))] == [(r"k\xffl/\xe9.png", png(7))]
    (flat_row,) = open_data(os.fsdecode(folder))
    assert flat_row.id.endswith(r"k\xffl/\xe9.png")
    flat_row.id.encode()


def test_a_link_to_a_folder_is_a_class_and_loops_end(tmp_path: Path) -> None:
    root = classes(tmp_path / "set")
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "0.png").write_bytes(png(8))
    (root / "bird").symlink_to(tmp_path / "bird")
    (root / "dog" / "again").symlink_to(root)
    rows = open_data(str(root))
    assert rows.class_labels == ("bird", "cat", "dog")
    assert len(rows) == 6


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        open_data(str(tmp_path))


def test_a_file_that_no_memory_holds_is_a_row_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    with (tmp_path / "b.png").open("wb") as file:
        file.truncate(2**43)
    rows = list(open_data(str(tmp_path)))
    assert [row.error is None for row in rows] == [True, False]
    assert "bytes, expected at most" in str(rows[1].error)


def test_hidden_tables_do_not_hide_images(tmp_path: Path) -> None:
    for name in (".cache/x.parquet", "_x.parquet", "_old/x.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.png").write_bytes(png(0))
    assert len(open_data(str(tmp_path))) == 1


def test_a_glob_that_finds_a_file_twice(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "a.png").write_bytes(png(0))
    assert len(open_data(f"{tmp_path}/**/**/*.png")) == 1
