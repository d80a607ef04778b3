"""Parquet in the Hugging Face image layout: image struct{bytes, path} (or binary), label integer.

A file, a folder of them, or a URL that ``pyarrow.fs`` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from train.data import DataError, ImageRows, Row

#: More classes than this without names are an id column taken for labels.
MAX_UNNAMED_CLASSES = 100_000


def parquet_rows(spec: str, location: str) -> ImageRows:
    """The rows at ``location``, a path or a URL; ``spec`` is what errors call it."""
    try:
        filesystem, path = _located(location)
        dataset = pads.dataset(_files(path, filesystem), filesystem=filesystem, format="parquet")
        size = dataset.count_rows()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{spec}: not readable as Parquet: {error}") from error
    _check_columns(spec, dataset.schema)
    labelled = "label" in dataset.schema.names
    columns = ["image", "label"] if labelled else ["image"]

    def read() -> Iterator[Row]:
        number = 0
        batches = dataset.to_batches(columns=columns, batch_size=1000)
        while (batch := _next_batch(spec, batches)) is not None:
            for row in batch.to_pylist():
                yield _row(row, number)
                number += 1

    def read_labels() -> Iterator[int | None]:
        yield from _labels(spec, dataset).to_pylist()

    return ImageRows(
        spec=spec,
        size=size,
        class_labels=_class_names(spec, dataset) if labelled else None,
        read=read,
        read_labels=read_labels if labelled else None,
    )


def _located(location: str) -> tuple[pafs.FileSystem, str]:
    if "://" in location:
        return pafs.FileSystem.from_uri(location)  # type: ignore[no-any-return]
    return pafs.LocalFileSystem(), location


def _files(path: str, filesystem: pafs.FileSystem) -> list[str]:
    """The file itself, or a folder's Parquet files; a README beside them is none."""
    if filesystem.get_file_info(path).type != pafs.FileType.Directory:
        return [path]
    entries = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    found = sorted(
        entry.path
        for entry in entries
        if entry.is_file
        and entry.base_name.endswith(".parquet")
        and not entry.base_name.startswith((".", "_"))
    )
    if not found:
        raise FileNotFoundError(f"{path} holds no *.parquet")
    return found


def _check_columns(spec: str, schema: pa.Schema) -> None:
    """Refuse columns of other names or kinds, naming those found."""
    columns = {field.name: field.type for field in schema}
    image = columns.get("image")
    if image is not None and pa.types.is_struct(image) and image.get_field_index("bytes") >= 0:
        image = image.field("bytes").type
    encoded = image is not None and (pa.types.is_binary(image) or pa.types.is_large_binary(image))
    if not encoded or not pa.types.is_integer(columns.get("label", pa.int64())):
        found = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
        raise DataError(
            f"{spec}: columns {found}; expected image (binary, or a struct of bytes and path) and "
            "label (whole numbers)"
        )


def _next_batch(spec: str, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    """The next batch, None at the end."""
    try:
        return next(batches, None)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{spec}: not readable as Parquet: {error}") from error


def _row(row: dict[str, Any], number: int) -> Row:
    image = row["image"]
    data, path = (image["bytes"], image.get("path")) if isinstance(image, dict) else (image, None)
    return Row(id=path or f"row/{number:08d}", image=data or b"", label=row.get("label"))


def _class_names(spec: str, dataset: pads.Dataset) -> tuple[str, ...]:
    """Class names from the schema's metadata, else the label numbers themselves."""
    metadata = dataset.schema.metadata or {}
    try:
        if b"class_names" in metadata:
            return tuple(str(name) for name in json.loads(metadata[b"class_names"]))
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(str(name) for name in features["label"]["names"])
    except KeyError:
        return _numbered(spec, _highest_label(spec, dataset) + 1)
    except (ValueError, TypeError) as error:
        raise DataError(f"{spec}: metadata of the schema is not readable: {error}") from error


def _highest_label(spec: str, dataset: pads.Dataset) -> int:
    """-1 where there is no label."""
    return max(_labels(spec, dataset).drop_null().to_pylist(), default=-1)


def _labels(spec: str, dataset: pads.Dataset) -> pa.ChunkedArray:
    try:
        return dataset.to_table(columns=["label"])["label"]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{spec}: not readable as Parquet: {error}") from error


def _numbered(spec: str, count: int) -> tuple[str, ...]:
    """Labels without names are called by their numbers."""
    if count > MAX_UNNAMED_CLASSES:
        raise DataError(
            f"{spec}: label {count - 1:,} and no class names; is the column really a class index?"
        )
    return tuple(str(label) for label in range(count))
