"""A Ray to score on: the user's own, or one of this machine that ends with the job.

It imports neither network nor Ray at once, so that Ray can start while the network is imported.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from service.batch.job_error import JobError

#: How often a cluster is asked.
ATTEMPTS = 3

#: A local Ray's own memory, bytes; what waits there is held back by Ray Data.
_OBJECT_STORE = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """``address``: None for a Ray of this machine alone. ``workers``: the fewest and the most
    actors, None for one a GPU or a core."""

    address: str | None = None
    workers: tuple[int, int] | None = None


class Starting:
    """A Ray to score on, started while the command does something else; one that was there before
    stays. A context manager that ends what it has started."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ours = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._thread = ThreadPoolExecutor(1)
        self._begun = self._thread.submit(self._start)

    def __enter__(self) -> Starting:
        return self

    def __exit__(self, *_: object) -> None:
        wait([self._begun])
        if self._ours:
            import ray

            ray.shutdown(wait_for_processes=True)  # they write into the folder until they end
            if self._folder is not None:
                self._folder.cleanup()
        self._thread.shutdown()  # not before: Ray's processes end with the thread that began them

    def ready(self) -> Cluster:
        """Wait until it is there; raises ``JobError`` where there is none."""
        self._begun.result()
        return self._cluster

    def _start(self) -> None:
        ray = _imported(self._cluster.address)
        if ray.is_initialized():
            return
        settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self._cluster.address is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ood-", ignore_cleanup_errors=True)
            settings |= {"include_dashboard": False, "_temp_dir": self._folder.name}
            settings |= {"object_store_memory": _OBJECT_STORE, "num_cpus": _cpus(self._cluster)}
        self._ours = True
        for left in reversed(range(ATTEMPTS)):
            try:
                ray.init(address=self._cluster.address or "local", **settings)
            except (ConnectionError, TimeoutError) as error:
                if left:  # a client's server on a busy head may take longer than Ray waits
                    continue
                raise JobError(
                    f"cannot reach Ray at {self._cluster.address}: {first_line(error)}; start it "
                    "there, or leave --address out for a Ray of this machine"
                ) from error
            return


def first_line(error: Exception) -> str:
    """What Ray says first; behind it come a whole traceback or a page of advice."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _imported(address: str | None) -> Any:
    """Ray reads its environment once, at import."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # else it warns at each start of an actor of what Ray Data has always done
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        # each of its processes is made when it is needed: they are few cores that start them
        "RAY_prestart_worker_first_driver": "0",
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
