"""What ``oodgate score`` does once its options are read: the job, where it is scored, its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import typer

from calibration.multiple import check_share
from service.batch.folder import Folder
from service.batch.images import Chunk
from service.batch.job import Job, Source
from service.batch.job_error import JobError
from service.batch.local import scored_here
from service.batch.on_ray import Cluster, scored_on_ray, started
from service.batch.parts import Position, Scored
from service.batch.record import Record, model_facts
from service.scorer import Scorer
from train.chunks import Known, chunks_of
from train.cluster import check_address
from train.data import match_labels, open_data
from train.progress import Progress, say


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be scored, with what; ``options`` are those that change a table."""

    scorer: Scorer
    chunks: Sequence[Chunk]
    rows: int
    inputs: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def of(cls, scorer: Scorer, data: str, *, labels: bool, batch_size: int) -> Work:
        """Of DATA; raises ``DataError``."""
        rows = open_data(data)
        index = None
        if labels and rows.class_labels is not None:
            index = match_labels(rows.class_labels, scorer.class_labels)
        return cls(
            scorer=scorer,
            chunks=[Known(chunk, index) for chunk in chunks_of(rows)],
            rows=len(rows),
            inputs={"data": data, "rows": len(rows)},
            options={
                "alpha": scorer.alpha,
                "statistics": scorer.statistics,
                "labels": labels,
                "batch_size": batch_size,
            },
        )


def asked_cluster(address: str | None, workers: str | None) -> Cluster:
    """What ``--address`` and ``--workers`` ask for; raises ``JobError`` and ``ClusterError``."""
    if address:
        check_address(address)
    return Cluster(address=address or None, workers=None if workers is None else _range(workers))


def check_fdr(fdr: float | None) -> None:
    """Raise ``CalibrationError`` for what is no share."""
    if fdr is not None:
        check_share("--fdr", fdr)


def score_all(
    work: Work,
    folder: Folder,
    cluster: Cluster | None,
    fdr: float | None,
    count: Callable[[pa.Table], None],
) -> None:
    """Begin the job or go on with it, and say what came of it."""
    scorer, schema = work.scorer, work.scorer.schema()
    record = Record(
        inputs=work.inputs, model=model_facts(scorer), options={**work.options, "fdr": fdr}
    )
    job = Job(
        folder=folder,
        schema=schema,
        record=record,
        rows=work.rows,
        bar=lambda label, done: Progress(label, work.rows, initial=done),
        count=count,
    )
    try:
        record = job.run(_source(work, schema, cluster))
    except KeyboardInterrupt:
        say(f"stopped; what is in {folder.shown} stays, and the same command goes on with it")
        raise typer.Exit(130) from None
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(record.counts.items()))
    typer.echo(f"{folder.shown}: {work.rows:,} rows: {counts}")


def _source(work: Work, schema: pa.Schema, cluster: Cluster | None) -> Source:
    size = work.options["batch_size"]
    if cluster is None:
        return lambda start: scored_here(work.scorer, schema, work.chunks, start, size)

    def on_ray(start: Position) -> Iterator[Scored]:
        with started(cluster):
            yield from scored_on_ray(cluster, work.scorer, schema, work.chunks, size, say, start)

    return on_ray


def _range(workers: str) -> tuple[int, int]:
    fewest, dash, most = workers.partition("-")
    try:
        found = int(fewest), int(most if dash else fewest)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1]:
        raise JobError(f"--workers {workers}: expected a number, or two such as 1-8")
    return found
