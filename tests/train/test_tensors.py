"""Tables of pixels, and tables in Arrow's own files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.image import InputSpec, decode
from service.batch.images import decoded
from tests.train.pieces import flat, images, png, sent, store, write
from train import table_runs
from train.data import DataError, ImageRows, open_data
from train.images import Images, load_images
from train.progress import watch

SHAPES = [
    ((4, 5), 1),
    ((4, 5, 1), 1),
    ((1, 4, 5), 1),
    ((4, 5, 3), 3),
    ((3, 4, 5), 3),
    ((3, 4, 3), 3),
]


def tensor(values: Any) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


def nested(values: Any) -> pa.Array:
    kind = pa.uint8()
    for size in reversed(values.shape[1:]):
        kind = pa.list_(kind, size)
    return pa.array(values.tolist(), kind)


def arrow(path: Path, table: pa.Table, rows: int) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("make", [tensor, nested])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize(("shape", "channels"), SHAPES)
def test_pixels_survive(
    tmp_path: Path, make: Any, suffix: str, shape: tuple[int, ...], channels: int
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, *shape), dtype=np.uint8)
    table = pa.table({"pixels": make(values), "label": [0, 1] * 3})
    path = tmp_path / f"x.{suffix}"
    write(path, table) if suffix == "parquet" else arrow(path, table, 4)
    rows = open_data(str(path))
    assert flat(sent(rows)) == list(rows)
    assert [(row.id, row.label) for row in rows] == [(f"row/{i:08d}", i % 2) for i in range(6)]
    first = len(shape) == 3 and shape[0] in (1, 3)
    chw = values if first else np.moveaxis(values.reshape(6, *shape[:2], -1), 3, 1)
    spec = InputSpec(shape=(channels, *chw.reshape(6, channels, -1, chw.shape[-1]).shape[2:]))
    for row, expected in zip(rows, chw.reshape(6, *spec.shape), strict=True):
        np.testing.assert_array_equal(decode(row.image, spec), expected)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_missing_pixels_are_rows_with_errors(tmp_path: Path, suffix: str) -> None:
    kind = pa.list_(pa.list_(pa.uint8(), 3), 2)
    row = [[1, 2, 3], [4, 5, 6]]
    table = pa.table({"pixels": pa.array([row, None, [[1, None, 3], row[1]], row], kind)})
    path = tmp_path / f"x.{suffix}"
    write(path, table) if suffix == "parquet" else arrow(path, table, 3)
    rows = list(open_data(str(path)))
    assert [row.error for row in rows] == [None, *["pixels are missing"] * 2, None]
    assert rows[0].image == rows[3].image != b"" == rows[1].image


@pytest.mark.parametrize(
    "column",
    [
        tensor(np.zeros((1, 2, 2, 4), np.uint8)),
        tensor(np.zeros((1, 4), np.uint8)),
        tensor(np.zeros((1, 4, 4), np.float32)),
        pa.array([[1, 2]], pa.list_(pa.uint8())),
    ],
)
def test_other_pixels_are_refused(tmp_path: Path, column: pa.Array) -> None:
    write(tmp_path / "x.parquet", pa.table({"pixels": column}))
    with pytest.raises(DataError, match=r"columns pixels .*; expected image .* or pixels"):
        open_data(str(tmp_path / "x.parquet"))


def test_arrow_in_the_usual_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_runs, "RUN_ROWS", 5)
    (tmp_path / "s").mkdir()
    arrow(tmp_path / "s" / "x.arrow", images(0, 8), 3)
    arrow(tmp_path / "s" / "y.feather", images(8, 3).drop(["label"]), 3)
    rows = open_data(str(tmp_path / "s"))
    chunks = sent(rows)
    assert [len(chunk) for chunk in chunks] == [6, 2, 3]
    assert flat(chunks) == list(rows)
    assert [row.id for row in rows] == [f"{i}.png" for i in range(11)]
    assert [row.image for row in rows] == [png(i) for i in range(11)]
    assert [row.label for row in rows] == [*[0, 1] * 4, *[None] * 3]


@pytest.mark.parametrize("content", [b"no table", b"\xff\xff\xff\xff\0\1\0\0cut", b""])
def test_arrow_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.arrow").write_bytes(content)
    with pytest.raises(DataError, match=r"x.arrow: not readable as Arrow IPC"):
        open_data(str(tmp_path / "x.arrow"))


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_stream_of_arrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None, far: bool
) -> None:
    """What Hugging Face's ``datasets`` writes."""
    table = images(0, 600)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (
        pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema, options=options) as stream,
    ):
        stream.write_table(table, max_chunksize=280)
    if far:
        store(monkeypatch, tmp_path)
    rows = open_data("store://x.arrow" if far else str(tmp_path / "x.arrow"))
    (chunk,) = sent(rows)
    assert chunk == list(rows)
    assert [row.id for row in rows] == [f"{i}.png" for i in range(600)]
    assert [row.image for row in rows] == [png(i) for i in range(600)]
    assert [row.label for row in rows] == [0, 1] * 300 == list(rows.labels())


@pytest.mark.parametrize(("shape", "channels"), SHAPES)
def test_tensors_fit_a_model_exactly_or_not_at_all(
    tmp_path: Path, shape: tuple[int, ...], channels: int
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    write(tmp_path / "x.parquet", pa.table({"pixels": tensor(values)}))
    rows = open_data(str(tmp_path / "x.parquet"))
    width = 3 if shape == (3, 4, 3) else 5
    assert len(load(rows, (channels, 4, width))) == 2
    assert (
        not decoded(rows, InputSpec(shape=(channels, 4, width)))["error"].is_valid().to_pylist()[0]
    )
    for wrong in ((channels, 4, 6), (channels, 5, width), (4 - channels, 4, width)):
        message = f"pixels of shape {[channels, 4, width]}: expected {list(wrong)} "
        (first, second) = decoded(rows, InputSpec(shape=wrong))["error"].to_pylist()
        assert first == second
        assert first.startswith(message)
        with pytest.raises(DataError, match=re.escape(f"row 0, row/00000000: {message}")):
            load(rows, wrong)
    write(tmp_path / "y.parquet", images(0, 2))
    assert len(load(open_data(str(tmp_path / "y.parquet")), (1, 9, 9))) == 2


def load(rows: ImageRows, shape: tuple[int, int, int]) -> Images:
    return load_images(rows, InputSpec(shape=shape), None, watch)
