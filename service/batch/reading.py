"""Chunks read and decoded by the tasks of Ray Data: batches, each a row that Ray cannot look into.

It imports no network, so that a process which only decodes is there at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from model.image import InputSpec
from service.batch.images import Chunk, batches

CHUNK, ROW, CONTENT = "chunk", "row", "content"


def read(chunk: Chunk, number: int, row: int, spec: InputSpec, size: int) -> Iterator[pa.Table]:
    """Decoded batches of a chunk from its row ``row`` on, as rows (chunk, row, content)."""
    for batch in batches(chunk.read(), spec, size, skip=row):
        content = pa.array([to_bytes(batch)], pa.large_binary())
        yield pa.table({CHUNK: [number], ROW: [row], CONTENT: content})
        row += batch.num_rows


def to_bytes(rows: pa.RecordBatch | pa.Table) -> bytes:
    """As a stream of Arrow; a table as one batch."""
    batches = rows.combine_chunks().to_batches() if isinstance(rows, pa.Table) else [rows]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_bytes(content: bytes) -> pa.Table:
    """What ``to_bytes`` was given, as a table."""
    return pa.ipc.open_stream(content).read_all()
