"""Scoring by workers of a Ray cluster: tasks decode chunks, a pool of actors scores their batches.

Ray Data streams one into the other, holds back what runs ahead, and makes anew what is lost with a
worker or a machine. What it carries are whole batches, a row each, so it cannot cut or join them.
The rows come back in the order of the data. Where Ray itself fails, all goes on from the row that
was reached, a few times.

Only functions of this module import Ray.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from model.image import InputSpec
from service.batch.images import Chunk
from service.batch.job_error import JobError
from service.batch.local import first_row
from service.batch.parts import Position, Scored, rows_from
from service.batch.ray_start import Cluster, first_line
from service.batch.reading import CHUNK, CONTENT, ROW, from_bytes, read
from service.batch.worker import Worker, packed
from service.scorer import Scorer

#: What is left to be scored: chunks, what images become, images of a batch, the first row.
Left = tuple[Sequence[Chunk], InputSpec, int, Position]

#: How often Ray may fail without a row in between.
ATTEMPTS = 3

#: CPUs of a task that decodes, and of an actor that scores without a GPU: together one core.
_DECODING, _SCORING = 0.25, 0.75

#: Batches that Ray Data hands on together: fewer cost its driver more, more make a worker wait.
_BLOCK_BATCHES = 4


def scored_on_ray(
    cluster: Cluster,
    scorer: Scorer,
    schema: pa.Schema,
    chunks: Sequence[Chunk],
    size: int,
    say: Callable[[str], None],
    start: Position,
) -> Iterator[Scored]:
    """The rows of ``chunks`` from the batch on that holds ``start``, in batches of ``size``."""
    import ray

    worker = {
        "model": ray.put(packed(scorer)),
        "schema": schema,
        "alpha": scorer.alpha,
        "statistics": scorer.statistics,
    }
    block = _BLOCK_BATCHES * size * math.prod(scorer.spec.shape)
    failures = 0
    while start.chunk < len(chunks):
        left = (chunks, scorer.spec, size, start)
        streamed = _by_client if ray.util.client.ray.is_connected() else _streamed
        try:
            for scored in rows_from(start, streamed(left, cluster, worker, block)):
                yield scored
                start, failures = scored.end, 0
            return
        except Exception as error:
            failures += 1
            _raise_unless_lost(error, last=failures == ATTEMPTS)
            say(f"Ray has lost what it was doing ({first_line(error)}); going on from the last row")


def _by_client(
    left: Left, cluster: Cluster, worker: dict[str, Any], block: int
) -> Iterator[Scored]:
    """By ``ray://`` Ray Data has to be driven from within the cluster, so an actor does."""
    import ray

    stream: Any = ray.remote(Stream).options(num_cpus=0).remote(left, cluster, worker, block)
    coming = stream.take.remote()
    while found := ray.get(coming):
        coming = stream.take.remote()
        yield from found


class Stream:
    """What ``_streamed`` gives, asked for a few batches at a time."""

    def __init__(self, left: Left, cluster: Cluster, worker: dict[str, Any], block: int) -> None:
        self._rows = _streamed(left, cluster, worker, block)

    def take(self) -> list[Scored]:
        """What comes next; nothing at the end."""
        return list(itertools.islice(self._rows, _BLOCK_BATCHES))


def _streamed(left: Left, cluster: Cluster, worker: dict[str, Any], block: int) -> Iterator[Scored]:
    import ray

    source = _source(*left)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = block
    fewest, most = _everywhere(cluster)
    fewest = min(fewest, max(len(source), 1))  # an actor without a chunk would have nothing to do
    data = ray.data.read_datasource(
        source,
        num_cpus=_DECODING,
        override_num_blocks=len(source) or 1,
        concurrency=min(_readers(most), len(source) or 1),  # Ray warns of more than have work
    ).map_batches(
        Worker,
        fn_constructor_kwargs=worker,
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
        num_cpus=_SCORING,
        num_gpus=1 if _gpus() else 0,
    )
    stream: Any = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    for rows in stream:
        for row in rows.to_pylist():
            yield Scored(Position(row[CHUNK], row[ROW]), from_bytes(row[CONTENT]))


def _source(chunks: Sequence[Chunk], spec: InputSpec, size: int, start: Position) -> Any:
    """A source for Ray Data, a task each chunk from ``start`` on."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Chunks(Datasource):
        """What is left to be read."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        def __len__(self) -> int:
            return max(len(chunks) - start.chunk, 0)

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[ReadTask]:
            unknown = BlockMetadata(
                num_rows=None, size_bytes=None, exec_stats=None, input_files=None
            )
            return [
                ReadTask(
                    partial(read, chunks[n], n, first_row(n, start, size), spec, size), unknown
                )
                for n in range(start.chunk, len(chunks))
            ]

    return Chunks()


def _everywhere(cluster: Cluster) -> tuple[int, int]:
    """The fewest and the most actors: unless asked otherwise one a GPU, else one a core."""
    most = _gpus() or _cores()
    return cluster.workers or (most, most)


def _readers(actors: int) -> int:
    """Tasks that decode at once, one an actor or a core left over: each more is a process that
    starts for nothing."""
    return max(actors, _cores() - actors)


def _cores() -> int:
    import ray

    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def _gpus() -> int:
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def _raise_unless_lost(error: Exception, *, last: bool) -> None:
    """Raise what would be raised again; return where a machine or a process was lost."""
    from ray.exceptions import RayError, RayTaskError

    found: BaseException | None = error
    while found is not None:
        cause = found.cause if isinstance(found, RayTaskError) else None
        if isinstance(cause, Exception) and not isinstance(cause, RayError):
            raise cause from error
        found = found.__cause__
    if not isinstance(error, RayError):
        raise error
    if last:
        raise JobError(
            f"Ray failed {ATTEMPTS} times at the same row: {first_line(error)}; see that its "
            "machines have the memory, then go on with the same command"
        ) from error
