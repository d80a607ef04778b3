"""One batch job, from the first row to the last: scored, written in parts, decided, checked.

Whatever ends it, its parts stay, and the same job goes on after the last of them. It does not cover
where scoring takes place: that is ``local`` and ``on_ray``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from service.batch import discoveries
from service.batch.folder import Folder
from service.batch.job_error import JobError
from service.batch.parts import (
    PART_ROWS,
    PartWriter,
    Position,
    Scored,
    rows_from,
    standing,
    tables,
)
from service.batch.record import DECIDING, FINISHED, Record, find_record
from service.verdict_table import FDR_REJECTED

#: Where the first pass of ``--fdr`` writes.
STAGED = "_scored"

#: What says how a row came out, and what ``Job.count`` looks at.
OUTCOME = ("error", "decision")
COUNTED = (*OUTCOME, "reason", "class_index", "class_label", "p_value", "posterior")

#: From a position on, rows as they are scored; the first may be some that are before it.
Source = Callable[[Position], Iterator[Scored]]


class Progress(Protocol):
    """Something that shows how far a job is."""

    def advance(self, count: int, **figures: str) -> None:
        """So many rows more; figures to be shown beside."""
        ...


#: Writes a record with the seconds up to now, and gives it.
Keep = Callable[[Record], Record]

#: A progress bar of a name that begins at a number of rows.
Bar = Callable[[str, int], AbstractContextManager[Progress]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """``rows``: how many the data has. ``count`` is given all rows of the table, those of earlier
    sittings too; None where nobody counts. ``check`` is given the table and its rows when all are
    there, and raises where they cannot be right; then ``report`` is made."""

    folder: Folder
    schema: pa.Schema
    record: Record
    rows: int
    bar: Bar
    count: Callable[[pa.Table], None] | None
    check: Callable[[Folder, int], None]
    report: Callable[[], None]
    part_rows: int = PART_ROWS

    @property
    def fdr(self) -> float | None:
        """The false discovery rate of the second pass, None without one."""
        q: float | None = self.record.options.get("fdr")
        return q

    def finished(self) -> Record | None:
        """The record where this very job has ended; raises ``JobError`` where OUT has another."""
        found = find_record(self.folder, self.record)
        if found is None or found.state != FINISHED:
            return None
        rows = standing(self.folder).rows
        if rows != self.rows:
            raise JobError(
                f"{self.folder.shown}: found {rows:,} rows of a finished job, expected "
                f"{self.rows:,}: parts are missing; put them back, or score into another --out"
            )
        return found

    def recount(self) -> None:
        """Give ``count`` all rows of a finished table."""
        if self.count is not None:
            for table in tables(self.folder, COUNTED):
                self.count(table)

    def run(self, source: Source) -> Record:
        """Begin, or go on. Raises ``JobError``."""
        self.folder.make()
        with self.folder.held():
            found = find_record(self.folder, self.record)
            if found is None or found.state == FINISHED:
                self._forget()  # it can only be of another job, or of one that was killed just now
            if found is not None and found.state == FINISHED:
                return found
            record = self.record if found is None else found.again()
            began = time.monotonic() - record.seconds

            def keep(reached: Record) -> Record:
                timed = replace(reached, seconds=time.monotonic() - began)
                timed.write(self.folder)
                return timed

            self.folder.sweep()
            record.write(self.folder)
            try:
                counts = self._all(record, source, keep)
            except BaseException:
                keep(find_record(self.folder, self.record) or record)
                raise
            record = keep(record.ended(counts))
            self._forget()
        return record

    def _forget(self) -> None:
        """Delete what the first pass has left."""
        if STAGED in self.folder.names():
            self.folder.within(STAGED).delete_all()

    def _all(self, record: Record, source: Source, keep: Keep) -> dict[str, int]:
        staged = self.folder if self.fdr is None else self.folder.within(STAGED)
        staged.make()
        staged.sweep()
        over = record.state == DECIDING
        counts = self._score(staged, source, lambda: keep(record), over=over)
        if self.fdr is not None:
            keep(replace(record, state=DECIDING, counts=counts))
            with self.bar("deciding", 0) as bar:
                counts[FDR_REJECTED.name] = discoveries.decide(
                    staged, self.folder, self.fdr, bar.advance
                )
        self.check(self.folder, self.rows)
        self.report()
        return counts

    def _score(
        self, folder: Folder, source: Source, wrote: Callable[[], object], *, over: bool
    ) -> dict[str, int]:
        at = standing(folder)
        counts: Counter[str] = Counter()
        for table in tables(folder, OUTCOME if self.count is None else COUNTED):
            counts += self._counted(table)
        writer = PartWriter(folder, self.schema, at, self.part_rows, wrote)
        with self.bar("scoring", at.rows) as bar:
            for scored in () if over else rows_from(at.next, source(at.next)):
                writer.add(scored)
                counts += self._counted(scored.table)
                bar.advance(scored.table.num_rows, **_figures(counts))
        writer.finish()
        if writer.rows != self.rows:
            raise JobError(
                f"{folder.shown}: {writer.rows:,} rows were scored, expected {self.rows:,}, as "
                "many as the data had: it has changed meanwhile; score it into another --out"
            )
        return dict(counts)

    def _counted(self, table: pa.Table) -> Counter[str]:
        if self.count is not None:
            self.count(table)
        return outcomes(table)


def outcomes(table: pa.Table) -> Counter[str]:
    """How many rows got each decision; ``scored`` by a bare checkpoint, or ``error``."""
    failed = table.num_rows - table.column("error").null_count
    found = Counter(
        {
            one["values"]: one["counts"]
            for one in pc.value_counts(table.column("decision").drop_null()).to_pylist()
        }
    )
    return found + Counter(error=failed, scored=table.num_rows - failed - found.total())


def _figures(counts: Counter[str]) -> dict[str, str]:
    good = counts.total() - counts["error"]
    figures = {"errors": f"{counts['error']:,}"}
    if good and not counts["scored"]:
        figures = {"rejected": f"{counts['reject'] / good:.2%}"} | figures
    return figures
