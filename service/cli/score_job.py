"""What ``oodgate score`` does once its options are read: the job, its place, its report."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import typer

from calibration.multiple import check_share
from calibration.repeats import first_repeat
from service.batch import discoveries
from service.batch.contact_sheet import caption_of, contact_sheet
from service.batch.folder import Folder
from service.batch.images import Chunk
from service.batch.job import Job, Source
from service.batch.job_error import JobError
from service.batch.local import scored_here
from service.batch.looked_up import images_at
from service.batch.on_ray import scored_on_ray
from service.batch.parts import Position, Scored, tables
from service.batch.ray_start import Starting
from service.batch.record import Record, model_facts
from service.batch.report import told, write_report
from service.batch.summary import Summary, summarise
from service.scorer import Scorer
from train.chunks import KnownChunks, chunks_of, inputs_of
from train.data import match_labels, open_data
from train.progress import Progress, say

#: Where in OUT the report is.
REPORT = "_report"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be scored, with what."""

    scorer: Scorer
    chunks: Sequence[Chunk]
    rows: int
    record: Record

    @classmethod
    def of(
        cls, scorer: Scorer, data: str, *, labels: bool, batch_size: int, fdr: float | None
    ) -> Work:
        """Of DATA; raises ``DataError``."""
        rows = open_data(data)
        index = None
        if labels and rows.class_labels is not None:
            index = match_labels(rows.class_labels, scorer.class_labels)
        options = {
            "alpha": scorer.alpha,
            "statistics": scorer.statistics,
            "labels": labels,
            "batch_size": batch_size,
            "fdr": fdr,
        }
        return cls(
            scorer=scorer,
            chunks=KnownChunks(chunks_of(rows, batch_size), index),
            rows=len(rows),
            record=Record(inputs=inputs_of(rows), model=model_facts(scorer), options=options),
        )

    @property
    def size(self) -> int:
        """Images that are scored together."""
        size: int = self.record.options["batch_size"]
        return size


def check_fdr(fdr: float | None, scorer: Scorer) -> None:
    """Raise ``CalibrationError`` for what is no share, ``JobError`` where there are no p-values."""
    if fdr is None:
        return
    check_share("--fdr", fdr)
    if scorer.predictor is None:
        raise JobError(
            f"--fdr {fdr:g}: {scorer.name} is not calibrated, so its images have no p-values: "
            "calibrate it"
        )


def score_all(
    work: Work, out: str, starting: Starting | None, count: Callable[[pa.Table], None] | None
) -> None:
    """Begin the job or go on with it, and say what came of it; ``starting``: None for this
    process."""
    folder, schema = Folder.at(out), work.scorer.schema()
    _check_outside(work.record.inputs["data"], folder)
    job = Job(
        folder=folder,
        schema=schema,
        record=work.record,
        rows=work.rows,
        bar=lambda label, done: Progress(label, work.rows, initial=done),
        count=count,
        check=_check_ids,
        report=lambda: _report(work, folder),
    )
    finished = job.finished()
    if finished is not None:
        job.recount()
    try:
        if finished is None and starting is not None:
            starting.ready()  # Ray takes over SIGTERM when it starts; it is ours after that
        with _terminable():
            record = finished or job.run(_source(work, schema, starting))
    except KeyboardInterrupt:
        say(f"stopped; what is in {out} stays, and the same command goes on with it")
        raise typer.Exit(130) from None
    counts = ", ".join(f"{number:,} {name}" for name, number in sorted(record.counts.items()))
    done = "" if finished is None else ", finished before: nothing to do"
    typer.echo(f"{out}: {work.rows:,} rows: {counts}{done}")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the job as Ctrl-C does; handlers are the main thread's alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_outside(data: str, folder: Folder) -> None:
    """Raise ``JobError`` for an OUT in DATA, which would be read as data the next time."""
    inside = Folder.at(data).path if "://" in data or os.path.isdir(data) else None
    if inside is not None and f"{folder.path}/".startswith(f"{inside}/"):
        raise JobError(
            f"--out {folder.shown} lies in --data {data}, so its tables would be data the next "
            "time: choose an --out beside it"
        )


def _source(work: Work, schema: pa.Schema, starting: Starting | None) -> Source:
    scorer, chunks, size = work.scorer, work.chunks, work.size
    if starting is None:
        return lambda start: scored_here(scorer, schema, chunks, start, size)

    def on_ray(start: Position) -> Iterator[Scored]:
        cluster = starting.ready()
        return scored_on_ray(cluster, scorer, schema, chunks, size, say, start)

    return on_ray


def _check_ids(folder: Folder, rows: int) -> None:
    """Raise ``JobError`` where two rows have one id."""
    repeated = first_repeat(
        lambda: (chunk for table in tables(folder, ["id"]) for chunk in table["id"].chunks), rows
    )
    if repeated is not None:
        raise JobError(
            f"{folder.shown}: two rows have the id {repeated!r}, expected one each: the data names "
            "two images alike; rename one"
        )


def _report(work: Work, folder: Folder) -> None:
    predictor = work.scorer.predictor
    calibration = predictor.bundle.calibration if predictor is not None else None
    with Progress("summing up", work.rows) as bar:
        summary = summarise(_watched(folder, bar), calibration, work.scorer.class_labels)
    if not summary.rows:  # that would say which model it is of
        name, version = work.scorer.name, work.scorer.version
        summary = replace(summary, model_name=name, model_version=version)
    found = images_at(folder, work.chunks, [one.row for one in summary.atypical])
    sheet = [(found.get(one.row), caption_of(one)) for one in summary.atypical]
    report = folder.within(REPORT)
    report.make()
    write_report(report.write, summary, contact_sheet(sheet) if sheet else None)
    typer.echo(told(summary))
    if (warning := _few(work, summary)) is not None:
        say(warning)
    typer.echo(f"{'report':<10} {report.shown}/report.html")


def _watched(folder: Folder, bar: Progress) -> Iterator[pa.Table]:
    for table in tables(folder):
        yield table
        bar.advance(table.num_rows)


def _few(work: Work, summary: Summary) -> str | None:
    """What is to be said of ``--fdr`` and the size of the reference."""
    fdr, predictor = work.record.options["fdr"], work.scorer.predictor
    if fdr is None or predictor is None:
        return None
    judged = summary.rows - summary.errors.count
    return discoveries.warning(judged, fdr, predictor.bundle.calibration.ranking.smallest_p)
