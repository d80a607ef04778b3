"""Rows of a table file in runs of consecutive pieces: row groups or record batches."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from train.data import Row
from train.places import BrokenError, Place, resumed
from train.table_files import OPENERS, Table
from train.tensors import images_of

#: A run has at least so many rows, where its file has them, or a batch's.
RUN_ROWS = 500

#: How rows are called: by ``image.path``, by file and place in it, or by place in the only file.
Naming = Literal["path", "file", "row"]


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file of a data set and the row counts of its pieces."""

    path: str
    pieces: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Of all pieces."""
        return sum(self.pieces)


@dataclass(frozen=True, kw_only=True)
class TableRun:
    """Consecutive pieces of one file, from number ``piece`` on; ``first`` is their first row."""

    place: Place
    path: str
    naming: Naming
    piece: int
    first: int
    pieces: tuple[int, ...]

    def read(self) -> Iterator[Row]:
        """The rows; what cannot be read of a piece are rows with an error each.

        Raises ``DataError`` where a remote store does not answer.
        """
        done = 0
        ends = list(itertools.accumulate(self.pieces))
        while done < ends[-1]:
            try:
                for row in resumed(self.place, self.path, self._starting(done)):
                    yield row
                    done += 1
            except BrokenError as error:
                end = next(end for end in ends if end > done)
                yield from self._lost(range(done, end), str(error))
                done = end

    def _starting(self, first: int) -> Any:
        return lambda skip: self._rows(first + skip)

    def _rows(self, skip: int) -> Iterator[Row]:
        """Rows of the run behind the first ``skip``."""
        begin = 0
        with closing(open_table(self.place, self.path)) as table:
            self._check(table)
            for number, count in enumerate(self.pieces, self.piece):
                if begin + count > skip:
                    rows = self._of_piece(table, number, self.first + begin)
                    yield from itertools.islice(rows, max(skip - begin, 0), None)
                begin += count

    def _check(self, table: Table) -> None:
        found = table.pieces[self.piece : self.piece + len(self.pieces)]
        if found != self.pieces:
            raise ValueError(
                f"changed since it was listed: {found} rows in its pieces, expected {self.pieces}"
            )

    def _of_piece(self, table: Table, piece: int, first: int) -> Iterator[Row]:
        columns = image_columns(table.schema, paths=self.naming == "path")
        for batch in table.batches(piece, [*columns, "label"]):
            labels = batch["label"].to_pylist() if "label" in batch.schema.names else None
            exact = "image" not in batch.schema.names
            for i, (image, path, error) in enumerate(_images(batch)):
                yield Row(
                    id=path or self._id(first + i),
                    image=image or b"",
                    label=labels[i] if labels is not None and error is None else None,
                    error=error,
                    exact=exact,
                )
            first += len(batch)

    def _lost(self, rows: range, why: str) -> Iterator[Row]:
        for i in rows:
            error = f"{self.place.name(self.path)}: not readable as {kind_of(self.path)}: {why}"
            yield Row(id=self._id(self.first + i), image=b"", label=None, error=error)

    def _id(self, row: int) -> str:
        if self.naming == "row":
            return f"row/{row:08d}"
        return f"{self.place.name(self.path)}#{row}"


def runs_of(
    place: Place, files: Sequence[TableFile], naming: Naming, batch: int
) -> Iterator[TableRun]:
    """All rows in their order; small pieces are put together, to ``batch`` rows at least."""
    for file in files:
        piece, first = 0, 0
        for pieces in _together(file.pieces, max(RUN_ROWS, batch)):
            yield TableRun(
                place=place, path=file.path, naming=naming, piece=piece, first=first, pieces=pieces
            )
            piece, first = piece + len(pieces), first + sum(pieces)


def open_table(place: Place, path: str) -> Table:
    """The file, of the kind that its suffix says; Parquet where that says nothing."""
    return OPENERS.get(_suffix(path), OPENERS[".parquet"])(place.filesystem, path)


def kind_of(path: str) -> str:
    """What errors call the kind of a file."""
    return "Arrow IPC" if _suffix(path) in (".arrow", ".feather") else "Parquet"


def image_columns(schema: pa.Schema, *, paths: bool) -> list[str]:
    """What is read of the images: no more than rows need."""
    if "image" not in schema.names:
        return ["pixels"]
    if not pa.types.is_struct(schema.field("image").type):
        return ["image"]
    return ["image.bytes", "image.path"] if paths else ["image.bytes"]


def _images(batch: pa.RecordBatch) -> Iterator[tuple[bytes | None, str | None, str | None]]:
    """Image, path and error of each row."""
    if "image" not in batch.schema.names:
        for image in images_of(batch["pixels"]):
            yield image, None, None if image is not None else "pixels are missing"
        return
    for value in batch["image"].to_pylist():
        if isinstance(value, dict):
            yield value["bytes"], value.get("path"), None
        else:
            yield value, None, None


def _together(pieces: Sequence[int], rows: int) -> Iterator[tuple[int, ...]]:
    held: list[int] = []
    for count in pieces:
        held.append(count)
        if sum(held) >= rows:
            yield tuple(held)
            held = []
    if sum(held):
        yield tuple(held)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
