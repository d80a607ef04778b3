"""DATA: every way to name images, and what each refuses."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from model.image import InputSpec, UInt8Array, decode
from train.data import DataError, ImageRows, open_data
from train.images import load_images

SPEC = InputSpec(shape=(1, 3, 3))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 3), value, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def values(rows: ImageRows) -> list[int]:
    return [int(decode(row.image, SPEC)[0, 0, 0]) for row in rows]


def table(first: int = 0, count: int = 4, **changes: Any) -> pa.Table:
    images = [{"bytes": png(first + i), "path": f"{first + i}.png"} for i in range(count)]
    labels = [(first + i) % 2 for i in range(count)]
    return pa.table({"image": images, "label": labels} | changes)


def named(rows: pa.Table, **metadata: object) -> pa.Table:
    return rows.replace_schema_metadata({key: json.dumps(v) for key, v in metadata.items()})


def test_digits_are_split_for_good() -> None:
    train, test = open_data("digits"), open_data("digits:test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.class_labels == test.class_labels == tuple("0123456789")
    ids = [[row.id for row in rows] for rows in (train, test)]
    assert not set(ids[0]) & set(ids[1])
    assert [row.id for row in open_data("digits:train")] == ids[0]
    counts = np.bincount([row.label for row in test if row.label is not None])
    assert counts.min() > 20


def test_digits_survive_8_bits() -> None:
    from sklearn.datasets import load_digits

    images = load_digits().images
    for row, _ in zip(open_data("digits:test"), range(20), strict=False):
        pixels = decode(row.image, InputSpec(shape=(1, 8, 8)))
        index = int(Path(row.id).stem)
        np.testing.assert_array_equal((pixels[0].astype(int) * 16 + 127) // 255, images[index])


def folder_of_classes(root: Path) -> None:
    for label, name in ((1, "dog"), (0, "cat")):
        for i in range(2):
            path = root / name / f"deep{i}" / f"{i}.PNG"
            path.parent.mkdir(parents=True)
            path.write_bytes(png(10 * label + i))
    (root / "notes.txt").write_text("no image")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.png").write_bytes(png(99))


def test_a_folder_with_a_sub_folder_a_class(tmp_path: Path) -> None:
    folder_of_classes(tmp_path)
    rows = open_data(str(tmp_path))
    assert rows.class_labels == ("cat", "dog")
    assert [(row.id, row.label) for row in rows] == [
        ("cat/deep0/0.PNG", 0),
        ("cat/deep1/1.PNG", 0),
        ("dog/deep0/0.PNG", 1),
        ("dog/deep1/1.PNG", 1),
    ]
    assert values(rows) == [0, 1, 10, 11]
    assert len(rows) == 4


def test_a_flat_folder_a_glob_and_a_file_have_no_labels(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    (tmp_path / "folder.png").mkdir()
    one = tmp_path / "a[0].png"
    one.write_bytes(png(7))
    for spec, expected in (
        (tmp_path, [0, 1, 2, 7]),
        (tmp_path / "[0-9].png", [0, 1, 2]),
        (tmp_path / "*.png", [0, 1, 2, 7]),
        (one, [7]),
    ):
        rows = open_data(str(spec))
        assert rows.class_labels is None
        assert [row.label for row in rows] == [None] * len(expected)
        assert values(rows) == expected
        assert all(Path(row.id).is_file() for row in rows)


def write(path: Path, rows: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=2)
    return path


def parquet_sources(tmp_path: Path) -> list[str]:
    file = write(tmp_path / "one" / "all.parquet", table(0, 8))
    folder = tmp_path / "two"
    write(folder / "part-1.parquet", table(4))
    write(folder / "part-0.parquet", table(0))
    (folder / "README.md").write_text("about the data")
    (folder / "_part-2.parquet").write_bytes(b"half written")
    return [str(file), file.as_uri(), str(folder), folder.as_uri()]


def test_parquet_as_file_folder_and_url(tmp_path: Path) -> None:
    for spec in parquet_sources(tmp_path):
        rows = open_data(spec)
        assert len(rows) == 8
        assert values(rows) == list(range(8))
        assert values(rows) == list(range(8)), "a second reading starts again"
        assert [row.id for row in rows] == [f"{i}.png" for i in range(8)]
        assert [row.label for row in rows] == [0, 1] * 4
        assert rows.class_labels == ("0", "1")


@pytest.mark.parametrize(
    "metadata",
    [
        {"class_names": ["cat", "dog"]},
        {"huggingface": {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}},
    ],
)
def test_class_names_come_from_the_metadata(tmp_path: Path, metadata: dict[str, object]) -> None:
    path = write(tmp_path / "x.parquet", named(table(), **metadata))
    assert open_data(str(path)).class_labels == ("cat", "dog")


@pytest.mark.parametrize(
    "metadata",
    [{}, {"huggingface": {}}, {"huggingface": {"info": {"features": {"label": {}}}}}],
)
def test_without_names_the_numbers_are_the_names(
    tmp_path: Path, metadata: dict[str, object]
) -> None:
    rows = named(table(label=[3, None, 0, 1]), **metadata)
    found = open_data(str(write(tmp_path / "x.parquet", rows)))
    assert found.class_labels == ("0", "1", "2", "3")
    assert [row.label for row in found] == [3, None, 0, 1]


def test_parquet_of_plain_bytes_without_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"image": [png(5), None]}))
    rows = open_data(str(path))
    assert rows.class_labels is None
    assert [(row.id, row.image) for row in rows] == [
        ("row/00000000", png(5)),
        ("row/00000001", b""),
    ]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (pa.table({"picture": [1]}), r"picture \(int64\)"),
        (table().drop(["image"]), r"label \(int64\)"),
        (table(image=["a"] * 4), r"image \(string\)"),
        (table(image=[{"path": "a"}] * 4), r"image \(struct<path: string>\)"),
        (table(label=["a"] * 4), r"label \(string\)"),
        (table(label=[0.5] * 4), r"label \(double\)"),
    ],
)
def test_parquet_of_other_columns(tmp_path: Path, rows: pa.Table, found: str) -> None:
    path = write(tmp_path / "x.parquet", rows)
    with pytest.raises(DataError, match=rf"x\.parquet: columns .*{found}.*; expected image"):
        open_data(str(path))


@pytest.mark.parametrize("metadata", [{"class_names": 7}, {"huggingface": ["x"]}])
def test_parquet_with_odd_metadata(tmp_path: Path, metadata: dict[str, object]) -> None:
    path = write(tmp_path / "x.parquet", named(table(), **metadata))
    with pytest.raises(DataError, match="metadata"):
        open_data(str(path))


def test_damaged_parquet_is_a_data_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", table())
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not readable as Parquet"):
        open_data(str(path))
    content[4:200] = bytes(196)
    path.write_bytes(content)
    rows = open_data(str(path))
    assert {row.error is not None and "not readable as Parquet" in row.error for row in rows} == {
        True,
        False,
    }
    with pytest.raises(DataError, match="not readable as Parquet"):
        load_images(rows, SPEC, None, lambda rows, **_: rows)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "DATA is empty"),
        ("digits:val", "expected digits:train or digits:test"),
        ("no-such-set", "no such file or folder, and no torchvision data set"),
        ("mnist:val", "split 'val'; expected train or test"),
        ("image-folder", "cannot download"),
        ("{tmp}/missing.png", "no such file or folder"),
        ("{tmp}/*.png", "no images there"),
        ("{tmp}", "no images there"),
        ("file://{tmp}/missing", "not readable as Parquet"),
        ("file://{tmp}", "not readable as Parquet"),
        ("bogus://host/x", "not readable as Parquet"),
    ],
)
def test_what_names_nothing(tmp_path: Path, spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(spec.format(tmp=tmp_path))


def idx(content: UInt8Array) -> bytes:
    """The format of MNIST's files: magic number, sizes, bytes."""
    head = struct.pack(f">{1 + content.ndim}I", 0x800 + content.ndim, *content.shape)
    return head + content.tobytes()


@pytest.fixture
def local_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], UInt8Array]:
    """A tiny MNIST where torchvision keeps it, so that nothing is downloaded."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    for prefix, count in (("train", 6), ("t10k", 3)):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images[:count]))
        labels = np.arange(count, dtype=np.uint8)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    monkeypatch.setenv("OODGATE_DATA", str(tmp_path))
    return lambda: images


@pytest.mark.parametrize(
    ("spec", "count"), [("mnist", 6), ("MNIST:train", 6), ("mnist:test", 3), ("M-NIST:test", 3)]
)
def test_a_torchvision_set_by_name(
    local_mnist: Callable[[], UInt8Array], spec: str, count: int
) -> None:
    rows = open_data(spec)
    assert len(rows) == count
    assert rows.class_labels is not None
    assert len(rows.class_labels) == 10
    for i, row in enumerate(rows):
        assert row.label == i
        pixels = decode(row.image, InputSpec(shape=(1, 28, 28)))
        np.testing.assert_array_equal(pixels[0], local_mnist()[i])


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(**_: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setenv("OODGATE_DATA", str(tmp_path))
    monkeypatch.setattr(
        torchvision.datasets.MNIST, "__init__", lambda self, root, train, download: offline()
    )
    with pytest.raises(DataError, match=r"could not provide it \(no network\).*OODGATE_DATA"):
        open_data("mnist")


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(named(table(), class_names=["crane", "crane"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="stand for two classes"):
        open_data(str(tmp_path / "t.parquet"))


def test_an_id_column_is_not_taken_for_labels(tmp_path: Path) -> None:
    pq.write_table(table(label=[0, 1, 2, 10**12]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="is the column really a class index"):
        open_data(str(tmp_path / "t.parquet"))


def test_a_glob_of_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="name its folder instead"):
        open_data(str(tmp_path / "*.parquet"))


def test_a_folder_does_not_hide_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(open_data("digits")) == 1437
