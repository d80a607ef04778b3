"""Scoring in this process: the next batch is decoded while one is scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import pyarrow as pa

from service.batch.images import Chunk, batches
from service.batch.parts import Position, Scored
from service.scorer import Scorer

Item = TypeVar("Item")


def scored_here(
    scorer: Scorer, schema: pa.Schema, chunks: Sequence[Chunk], start: Position, size: int
) -> Iterator[Scored]:
    """The rows of ``chunks`` from the batch on that holds ``start``, in batches of ``size``."""
    for position, batch in _ahead(_batches(scorer, chunks, start, size)):
        yield Scored(position, scorer(batch, schema))


def _batches(
    scorer: Scorer, chunks: Sequence[Chunk], start: Position, size: int
) -> Iterator[tuple[Position, pa.RecordBatch]]:
    for number, chunk in enumerate(islice(chunks, start.chunk, None), start.chunk):
        row = first_row(number, start, size)
        for batch in batches(chunk.read(), scorer.spec, size, skip=row):
            yield Position(number, row), batch
            row += batch.num_rows


def first_row(chunk: int, start: Position, size: int) -> int:
    """Where to begin in a chunk: batches stay what they are, wherever a job goes on."""
    return start.row // size * size if chunk == start.chunk else 0


def _ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same, each made while the one before is in use."""
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, source, None)
            yield item
