"""Scoring by workers of a Ray cluster: tasks decode chunks, a pool of actors scores their batches.

Ray Data streams one into the other, holds back what runs ahead, and makes anew what is lost with a
worker or a machine. What it carries are whole batches, a row each, so it cannot cut or join them.
The rows come back in the order of the data. Where Ray itself fails, all goes on from the row that
was reached, a few times.

Only functions of this module import Ray.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from model.image import InputSpec
from service.batch.job_error import JobError
from service.batch.images import Chunk, batches
from service.batch.local import first_row
from service.batch.parts import Position, Scored
from service.batch.worker import Worker, packed
from service.scorer import Scorer

#: How often Ray may fail without a row in between.
ATTEMPTS = 3

#: CPUs of a task that decodes, and of an actor that scores without a GPU: together one core.
_DECODING, _SCORING = 0.25, 0.75

#: A local Ray's own memory, bytes; what waits there is held back by Ray Data.
_OBJECT_STORE = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """``address``: None for a Ray of this machine alone. ``workers``: the fewest and the most
    actors, None for one a GPU or a core. ``threads`` of each actor."""

    address: str | None = None
    workers: tuple[int, int] | None = None
    threads: int = 1


@contextmanager
def started(cluster: Cluster) -> Iterator[None]:
    """A Ray to score on; one that was there before stays. Raises ``JobError``."""
    ray = _imported(cluster.address)
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with tempfile.TemporaryDirectory(prefix="ood-", ignore_cleanup_errors=True) as folder:
        if cluster.address is None:
            quiet |= {"include_dashboard": False, "_temp_dir": folder}
            quiet |= {"object_store_memory": _OBJECT_STORE, "num_cpus": _cpus(cluster)}
        try:
            try:
                ray.init(address=cluster.address or "local", **quiet)
            except (ConnectionError, TimeoutError) as error:
                raise JobError(
                    f"cannot reach Ray at {cluster.address}: {error}; start it there, or leave "
                    "--address out for a Ray of this machine"
                ) from error
            yield
        finally:
            ray.shutdown()


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

    # as bytes: with a reference among its arguments Ray warns that an actor may not start again
    model = ray.cloudpickle.dumps(ray.put(packed(scorer)))
    settings = {"alpha": scorer.alpha, "statistics": scorer.statistics, "threads": cluster.threads}
    failures = 0
    while True:
        source = _source(chunks, scorer.spec, size, start)
        try:
            for scored in _streamed(source, cluster, model, settings, schema):
                yield scored
                start, failures = scored.end, 0
            return
        except Exception as error:
            failures += 1
            _raise_unless_lost(error, last=failures == ATTEMPTS)
            say(f"Ray has lost what it was doing ({_brief(error)}); going on from the last row")


def _streamed(
    source: Any, cluster: Cluster, model: bytes, settings: dict[str, Any], schema: pa.Schema
) -> Iterator[Scored]:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    gpus = int(ray.cluster_resources().get("GPU", 0))
    fewest, most = cluster.workers or _everywhere(gpus)
    fewest = min(fewest, max(len(source), 1))  # an actor without a chunk would have nothing to do
    data = ray.data.read_datasource(
        source, num_cpus=_DECODING, override_num_blocks=len(source) or 1
    ).map_batches(
        Worker,
        fn_constructor_kwargs={"model": model, "schema": schema, **settings},
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
        num_cpus=_SCORING,
        num_gpus=1 if gpus else 0,
    )
    for block in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for row in block.to_pylist():
            yield Scored(Position(row["chunk"], row["row"]), _table(row["content"]))


def _source(chunks: Sequence[Chunk], spec: InputSpec, size: int, start: Position) -> Any:
    """A source for Ray Data, a task each chunk from ``start`` on."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Chunks(Datasource):
        """What is left to be read."""

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
                    partial(_read, chunks[n], n, first_row(n, start, size), spec, size), unknown
                )
                for n in range(start.chunk, len(chunks))
            ]

    return Chunks()


def _read(chunk: Chunk, number: int, row: int, spec: InputSpec, size: int) -> Iterator[pa.Table]:
    """Decoded batches of a chunk, a row each; runs on a worker."""
    for batch in batches(chunk.read(), spec, size, skip=row):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        content = pa.array([sink.getvalue().to_pybytes()], pa.large_binary())
        yield pa.table({"chunk": [number], "row": [row], "content": content})
        row += batch.num_rows


def _table(content: bytes) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()


def _imported(address: str | None) -> Any:
    """Ray reads its environment once, at import."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }
    if address is None:  # nobody but this job's processes, on this machine, is let in
        settings |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its node is 127.0.0.1
        }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise JobError(
            f"scoring by workers needs Ray Data ({error}): pip install 'oodgate[serve]', or add "
            "--local"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL + 1)  # what it raises says the same
    return ray


def _cpus(cluster: Cluster) -> int:
    return max(os.cpu_count() or 1, cluster.workers[1] if cluster.workers else 1)


def _everywhere(gpus: int) -> tuple[int, int]:
    """An actor each GPU, else each core."""
    import ray

    most = gpus or max(int(ray.cluster_resources().get("CPU", 1)), 1)
    return most, most


def _raise_unless_lost(error: Exception, *, last: bool) -> None:
    """Raise what would be raised again; return where a machine or a process was lost."""
    from ray.exceptions import RayError, RayTaskError

    found: BaseException | None = error
    while found is not None:
        cause = found.cause if isinstance(found, RayTaskError) else None
        if isinstance(cause, Exception) and not isinstance(cause, RayError):
            raise cause from error
        found = found.__cause__
    if not isinstance(error, RayError) or last:
        raise JobError(
            f"Ray failed {ATTEMPTS} times at the same row: {_brief(error)}; see that its machines "
            "have the memory, then go on with the same command"
        ) from error


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
