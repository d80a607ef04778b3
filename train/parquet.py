"""Tables in the Hugging Face image layout: image struct{bytes, path} (or binary), label integer.

Or, in place of image, pixels as uint8 tensors. Parquet or Arrow IPC: a file, a folder of Parquet,
or a URL that ``pyarrow.fs`` reads. What is opened here is read in ``train.table_runs``.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from calibration.repeats import first_repeat
from train.data import DataError, ImageRows, Row
from train.places import READ_ERRORS, BrokenError, Place, resumed, stated
from train.table_files import OPENERS
from train.table_runs import (
    Naming,
    TableFile,
    TableRun,
    image_columns,
    kind_of,
    open_table,
    runs_of,
)
from train.tensors import tensor_shape

#: More classes than this without names are an id column taken for labels.
MAX_UNNAMED_CLASSES = 100_000

#: Footers that are read side by side: those of an object store are far away.
AT_ONCE = 8


def parquet_rows(spec: str, location: str) -> ImageRows:
    """The rows at ``location``, a path or a URL; ``spec`` is what errors call it.

    Footers alone are read, and the labels where they have no names.
    """
    source = _opened(spec, location)
    labelled = "label" in source.schema.names
    return ImageRows(
        spec=spec,
        size=sum(file.rows for file in source.files),
        class_labels=_class_names(source) if labelled else None,
        read=source.read,
        read_labels=source.labels if labelled else None,
        chunks=source.chunks,
        files=lambda: stated(source.place, [file.path for file in source.files]),
    )


@dataclass(frozen=True)
class Source:
    """The files of a data set, and the schema of the first."""

    spec: str
    place: Place
    schema: pa.Schema
    files: tuple[TableFile, ...]

    def chunks(self, batch: int = 1) -> Sequence[TableRun]:
        """Runs of pieces, in their order, of ``batch`` rows at least."""
        return list(runs_of(self.place, self.files, self.naming, batch))

    def read(self) -> Iterator[Row]:
        """All rows, as the chunks have them."""
        for run in self.chunks():
            yield from run.read()

    def labels(self) -> Iterator[int | None]:
        """Of all rows; raises ``DataError`` where they cannot be read."""
        try:
            for label in self.column("label"):
                yield from label.to_pylist()
        except BrokenError as error:
            raise _unreadable(self, error) from error

    @functools.cached_property
    def naming(self) -> Naming:
        """By path where each row has one of its own: found out once, from the paths alone."""
        rows = sum(file.rows for file in self.files)
        if self._has_paths() and first_repeat(self._paths, rows) is None:
            return "path"
        return "file" if len(self.files) > 1 else "row"

    def column(self, name: str) -> Iterator[pa.Array]:
        """One column of all rows, a few at a time; of a file without it, nulls.

        Raises ``BrokenError`` where a file cannot be read.
        """
        for file in self.files:
            start = functools.partial(self._of_file, file, name)
            yield from resumed(self.place, file.path, start)

    def _of_file(self, file: TableFile, name: str, skip: int) -> Iterator[pa.Array]:
        with closing(open_table(self.place, file.path)) as table:
            arrays = (
                batch.column(0) if batch.num_columns else pa.nulls(len(batch))
                for piece in range(len(file.pieces))
                for batch in table.batches(piece, [name])
            )
            yield from itertools.islice(arrays, skip, None)

    def _paths(self) -> Iterator[pa.Array]:
        for image in self.column("image.path"):
            yield pc.struct_field(image, "path")  # null too where the image is

    def _has_paths(self) -> bool:
        """Whether every row has a path that is text; of a broken file nobody knows."""
        if "image.path" not in image_columns(self.schema, paths=True):
            return False
        try:
            return all(map(_all_named, self._paths()))
        except (BrokenError, pa.ArrowException, KeyError):
            return False


def _all_named(paths: pa.Array) -> bool:
    if paths.null_count or not (
        pa.types.is_string(paths.type) or pa.types.is_large_string(paths.type)
    ):
        return False
    paths.validate(full=True)  # raises for what is not UTF-8
    return pc.all(pc.not_equal(paths, "")).as_py() is not False


def _opened(spec: str, location: str) -> Source:
    try:
        place = Place.of(location)
        paths = _listed(place)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(functools.partial(_file, place), paths))
    except READ_ERRORS as error:
        kind = kind_of(location)
        raise DataError(f"{spec}: not readable as {kind}: {error}") from error
    for schema, _ in found:
        _check_columns(spec, schema)
    schemas, files = zip(*found, strict=True)
    return Source(spec=spec, place=place, schema=schemas[0], files=files)


def _file(place: Place, path: str) -> tuple[pa.Schema, TableFile]:
    with closing(open_table(place, path)) as table:
        return table.schema, TableFile(path=path, pieces=table.pieces)


def _listed(place: Place) -> list[str]:
    """The file itself, or a folder's table files; a README beside them is none."""
    filesystem, path = place.filesystem, place.path
    if filesystem.get_file_info(path).type != pafs.FileType.Directory:
        return [path]
    entries = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    found = sorted(entry.path for entry in entries if entry.is_file and is_table(entry.base_name))
    parquet = [path for path in found if path.endswith(".parquet")]
    if not found:
        raise FileNotFoundError(f"{path} holds no *.parquet and no images")
    return parquet or found


def is_table(name: str) -> bool:
    """Whether a file of this name in a folder is one of its tables; hidden ones are not ready."""
    return os.path.splitext(name)[1] in OPENERS and not name.startswith((".", "_"))


def _check_columns(spec: str, schema: pa.Schema) -> None:
    """Refuse columns of other names or kinds, naming those found."""
    columns = {field.name: field.type for field in schema}
    if _holds_images(columns) and pa.types.is_integer(columns.get("label", pa.int64())):
        return
    found = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
    raise DataError(
        f"{spec}: columns {found}; expected image (binary, or a struct of bytes and path) or "
        "pixels (uint8 tensors [H, W], [H, W, C] or [C, H, W] with 1 or 3 channels), and label "
        "(whole numbers)"
    )


def _holds_images(columns: dict[str, pa.DataType]) -> bool:
    image = columns.get("image")
    if image is None:
        return "pixels" in columns and tensor_shape(columns["pixels"]) is not None
    if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0:
        image = image.field("bytes").type
    return bool(pa.types.is_binary(image) or pa.types.is_large_binary(image))


def _class_names(source: Source) -> tuple[str, ...]:
    """Class names from the schema's metadata, else the label numbers themselves."""
    metadata = source.schema.metadata or {}
    try:
        if b"class_names" in metadata:
            return tuple(str(name) for name in json.loads(metadata[b"class_names"]))
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(str(name) for name in features["label"]["names"])
    except KeyError:
        return numbered(source.spec, _highest_label(source) + 1)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{source.spec}: metadata of the schema is not readable: {error}"
        ) from error


def _highest_label(source: Source) -> int:
    """-1 where there is no label."""
    try:
        highest = (pc.max(labels).as_py() for labels in source.column("label"))
        return max((label for label in highest if label is not None), default=-1)
    except BrokenError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Source, error: BrokenError) -> DataError:
    kind = kind_of(source.files[0].path)
    return DataError(f"{source.spec}: not readable as {kind}: {error}")


def numbered(spec: str, count: int) -> tuple[str, ...]:
    """Labels without names are called by their numbers."""
    if count > MAX_UNNAMED_CLASSES:
        raise DataError(
            f"{spec}: label {count - 1:,} and no class names; is the column really a class index?"
        )
    return tuple(str(label) for label in range(count))
