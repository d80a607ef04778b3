"""The parts of a verdict table, ``part-00000.parquet`` and so on, and how far they go.

Each part but the last has as many rows. In its metadata each says which rows of which chunks of the
data it holds, so that a job can go on after the last part, and its images can be found again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from service.batch.folder import Folder
from service.batch.job_error import JobError

PART_ROWS = 10_000

_KEY = b"oodgate.rows"


@dataclass(frozen=True, order=True)
class Position:
    """A row of the data: of chunk ``chunk`` row ``row``, both from 0."""

    chunk: int
    row: int


@dataclass(frozen=True)
class Scored:
    """Consecutive rows of the table; the first is that at ``start``."""

    start: Position
    table: pa.Table

    @property
    def end(self) -> Position:
        """The row after the last, in the same chunk."""
        return Position(self.start.chunk, self.start.row + self.table.num_rows)

    def cut(self, rows: int) -> tuple[Scored, Scored]:
        """The first ``rows`` of them, and the others."""
        rest = Position(self.start.chunk, self.start.row + rows)
        return Scored(self.start, self.table.slice(0, rows)), Scored(rest, self.table.slice(rows))


@dataclass(frozen=True)
class Standing:
    """``parts`` parts that hold ``rows`` rows; ``next`` is where the data goes on after them."""

    parts: int
    rows: int
    next: Position


class PartWriter:
    """Cuts what is scored into parts, after those that are there; calls ``wrote`` after each."""

    def __init__(
        self,
        folder: Folder,
        schema: pa.Schema,
        standing: Standing,
        size: int,
        wrote: Callable[[], object],
    ) -> None:
        self._folder, self._schema, self._size, self._wrote = folder, schema, size, wrote
        self._number, self.rows = standing.parts, standing.rows
        self._pending: list[Scored] = []
        self._waiting = 0

    def add(self, scored: Scored) -> None:
        """Take what comes next, and write each part that it fills."""
        self.rows += scored.table.num_rows
        self._hold(scored)
        while (over := self._waiting - self._size) >= 0:
            last = self._pending.pop()
            first, rest = last.cut(last.table.num_rows - over)
            self._pending.append(first)
            self._write()
            if over:
                self._hold(rest)

    def finish(self) -> None:
        """Write what is left; a table without rows has one part."""
        if self._pending or not self._number:
            self._write()

    def _hold(self, scored: Scored) -> None:
        self._pending.append(scored)
        self._waiting += scored.table.num_rows

    def _write(self) -> None:
        spans = [[s.start.chunk, s.start.row, s.table.num_rows] for s in self._pending]
        note = {_KEY: json.dumps(_joined(spans)).encode()}
        schema = self._schema.with_metadata({**(self._schema.metadata or {}), **note})
        tables = [scored.table for scored in self._pending] or [schema.empty_table()]
        table = pa.concat_tables(tables).combine_chunks()
        self._folder.write_table(part_name(self._number), table.cast(schema))
        self._number += 1
        self._pending, self._waiting = [], 0
        self._wrote()


def rows_from(start: Position, source: Iterator[Scored]) -> Iterator[Scored]:
    """Without the rows of its chunk before ``start``, where a source begins with a whole batch."""
    for scored in source:
        if scored.start < start and scored.start.chunk == start.chunk:
            scored = scored.cut(min(start.row - scored.start.row, scored.table.num_rows))[1]
        if scored.table.num_rows:
            yield scored


def part_name(number: int) -> str:
    """The file name of a part, counted from 0."""
    return f"part-{number:05d}.parquet"


def part_names(folder: Folder) -> list[str]:
    """Of the parts in their order; raises ``JobError`` where one is missing."""
    found = [name for name in folder.names() if name.endswith(".parquet") and name[0] != "_"]
    expected = [part_name(number) for number in range(len(found))]
    if set(found) != set(expected):
        missing = sorted({*expected} - {*found})[0]
        raise JobError(
            f"{folder.shown}: found {len(found)} Parquet files, but no {missing}; expected the "
            "parts of one table without a gap: put it back, or score into another --out"
        )
    return expected


def standing(folder: Folder) -> Standing:
    """How far the parts go; raises ``JobError``."""
    names = part_names(folder)
    rows, last = 0, Position(0, 0)
    for name in names:
        rows += folder.footer(name).num_rows
    for chunk, row, count in spans_of(folder, names[-1])[-1:] if names else []:
        last = Position(chunk, row + count)
    return Standing(len(names), rows, last)


def spans_of(folder: Folder, name: str) -> list[tuple[int, int, int]]:
    """Which rows of the data a part holds: (chunk, first row, rows), one after the other."""
    note = (folder.footer(name).metadata or {}).get(_KEY)
    if note is None:
        raise JobError(
            f"{folder.shown}/{name} does not say which rows it holds: it is not of this program; "
            "choose another --out"
        )
    return [(chunk, row, count) for chunk, row, count in json.loads(note)]


def tables(folder: Folder, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The parts, one at a time."""
    return (folder.table(name, columns) for name in part_names(folder))


def _joined(spans: list[list[int]]) -> list[list[int]]:
    """Spans that follow on each other in one chunk as one."""
    joined: list[list[int]] = []
    for chunk, row, count in spans:
        if joined and joined[-1][0] == chunk and joined[-1][1] + joined[-1][2] == row:
            joined[-1][2] += count
        else:
            joined.append([chunk, row, count])
    return joined
