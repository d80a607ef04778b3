"""Kinds of table file: Parquet, cut by row group, and Arrow IPC, its files cut by record batch.

A stream of Arrow IPC, which is what Hugging Face's ``datasets`` writes, is one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.ipc
import pyarrow.parquet as pq

#: Rows in memory at once.
BATCH_ROWS = 256

#: How a stream of Arrow IPC begins, ahead of the length of its first message.
_STREAM = b"\xff\xff\xff\xff"

#: Bytes of a column that are read at once: a row group may be larger than memory.
BUFFER_BYTES = 1 << 20


class Table(Protocol):
    """An open file: ``pieces`` are the row counts of what can be read by itself."""

    schema: pa.Schema
    pieces: tuple[int, ...]

    def batches(self, piece: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of one piece, at most ``BATCH_ROWS`` at a time.

        A column may be a field of a struct, as ``image.path``; those that are missing are left out.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class ParquetTable:
    """Nothing but the footer is read on opening."""

    def __init__(self, filesystem: pafs.FileSystem, path: str) -> None:
        self._file = pq.ParquetFile(
            path,
            filesystem=filesystem,
            buffer_size=BUFFER_BYTES,
            pre_buffer=False,  # that would hold a row group's whole columns
        )
        metadata = self._file.metadata
        self.schema: pa.Schema = self._file.schema_arrow
        self.pieces = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))

    def batches(self, piece: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Streamed, so that a large row group is never whole in memory."""
        return self._file.iter_batches(  # type: ignore[no-any-return]
            batch_size=BATCH_ROWS, row_groups=[piece], columns=list(columns), use_threads=False
        )

    def close(self) -> None:
        """Let go of the file."""
        self._file.close(force=True)


class ArrowTable:
    """On opening, the narrowest column is read too: Arrow counts the rows of a batch no other way.

    Files on this machine are mapped, so that costs only what is touched.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        self._source = source
        file = pa.ipc.open_file(source)
        self.schema: pa.Schema = file.schema
        self.pieces = self._counted(file)

    def _counted(self, file: Any) -> tuple[int, ...]:
        fields: list[int] = [
            i for i, kind in enumerate(self.schema.types) if pa.types.is_primitive(kind)
        ][:1]
        if fields:
            options = pa.ipc.IpcReadOptions(included_fields=fields)
            file = pa.ipc.open_file(self._source, options=options)
        return tuple(file.get_batch(i).num_rows for i in range(file.num_record_batches))

    def batches(self, piece: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """A record batch in slices."""
        wanted = {column.split(".")[0] for column in columns}
        fields = [i for i, name in enumerate(self.schema.names) if name in wanted]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        batch = pa.ipc.open_file(self._source, options=options).get_batch(piece)
        yield from _slices(batch, [self.schema.names[i] for i in fields])

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()


class ArrowStream:
    """Without a footer, so on opening all of it is passed through and its batches are counted."""

    def __init__(self, source: pa.NativeFile) -> None:
        self._source = source
        with self._reader(None) as reader:
            self.schema: pa.Schema = reader.schema
        narrow = [i for i, kind in enumerate(self.schema.types) if pa.types.is_primitive(kind)][:1]
        with self._reader(narrow) as reader:
            self.pieces: tuple[int, ...] = (sum(batch.num_rows for batch in reader),)

    def batches(self, piece: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Its record batches in slices."""
        wanted = {column.split(".")[0] for column in columns}
        fields = [i for i, name in enumerate(self.schema.names) if name in wanted]
        with self._reader(fields) as reader:
            for batch in reader:
                yield from _slices(batch, [self.schema.names[i] for i in fields])

    def _reader(self, fields: list[int] | None) -> pa.RecordBatchStreamReader:
        self._source.seek(0)
        return pa.ipc.open_stream(
            self._source, options=pa.ipc.IpcReadOptions(included_fields=fields)
        )

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()


def _slices(batch: pa.RecordBatch, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The columns ``names``, checked, ``BATCH_ROWS`` at a time."""
    batch = batch.select(names)  # a reader that is asked for no field gives all
    batch.validate()
    for first in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(first, BATCH_ROWS)


def _arrow(filesystem: pafs.FileSystem, path: str) -> ArrowTable | ArrowStream:
    source = _mapped(filesystem, path)
    streamed = source.read(len(_STREAM)) == _STREAM
    return ArrowStream(source) if streamed else ArrowTable(source)


def _mapped(filesystem: pafs.FileSystem, path: str) -> pa.NativeFile:
    if isinstance(filesystem, pafs.LocalFileSystem):
        return pa.memory_map(path)
    return filesystem.open_input_file(path)


#: What opens a table file, by the suffix of its name.
OPENERS: dict[str, Callable[[pafs.FileSystem, str], Table]] = {
    ".parquet": ParquetTable,
    ".arrow": _arrow,
    ".feather": _arrow,
}
