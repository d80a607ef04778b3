"""Rows in pieces that can be read on different machines, in any order and again.

A chunk is small to send: it says where its rows are. Reading it gives the rows that the whole data
set has at that place, with the same ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, overload

from calibration.arrays import IntArray
from train.data import DataError, ImageRows, Row, open_data
from train.images import known_label


class Chunk(Protocol):
    """Consecutive rows of a data set; can be pickled."""

    def read(self) -> Iterator[Row]:
        """The rows, each time the same; one that cannot be read has its ``error``."""
        ...


@dataclass(frozen=True)
class Whole:
    """All rows of a source that cannot be cut, opened again where they are read."""

    spec: str

    def read(self) -> Iterator[Row]:
        """The rows."""
        return iter(open_data(self.spec))


@dataclass(frozen=True)
class Known:
    """A chunk with labels as a model numbers its classes, in place of the data's own numbers."""

    chunk: Chunk
    index: IntArray | None

    def read(self) -> Iterator[Row]:
        """The rows; a label that names no class is the error of its row."""
        for row in self.chunk.read():
            try:
                yield replace(row, label=known_label(row, self.index))
            except DataError as error:
                yield replace(row, label=None, error=row.error or str(error))


def inputs_of(rows: ImageRows) -> dict[str, Any]:
    """What a job reads, in short, so that one that goes on later notices other inputs.

    ``sha256`` is over name, size and, on this machine, time of change of each file, in the order of
    the rows; a file that has gone counts with size -1. Without files, the number of rows.
    """
    if rows.files is None:
        return {"data": rows.spec, "rows": len(rows)}
    digest, count, total = hashlib.sha256(), 0, 0
    for name, size, changed in rows.files():
        digest.update(json.dumps([name, size, changed]).encode())
        count, total = count + 1, total + max(size, 0)
    return {"data": rows.spec, "files": count, "bytes": total, "sha256": digest.hexdigest()}


class KnownChunks(Sequence[Chunk]):
    """Chunks with labels as a model numbers its classes, each made when it is asked for."""

    def __init__(self, chunks: Sequence[Chunk], index: IntArray | None) -> None:
        self._chunks, self._index = chunks, index

    def __len__(self) -> int:
        return len(self._chunks)

    @overload
    def __getitem__(self, place: int) -> Chunk: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Chunk]: ...

    def __getitem__(self, place: int | slice) -> Chunk | Sequence[Chunk]:
        if isinstance(place, slice):
            return KnownChunks(self._chunks[place], self._index)
        return Known(self._chunks[place], self._index)


def chunks_of(rows: ImageRows, batch: int = 1) -> Sequence[Chunk]:
    """All rows, in their order, one chunk after the other; none but the last of a file or folder
    has fewer than ``batch``, tars apart."""
    return rows.chunks(batch) if rows.chunks is not None else [Whole(rows.spec)]
