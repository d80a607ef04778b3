"""Servers as processes on free loopback ports, ended by their ids with all that they started."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service import processes
from tests.bench.service.environments import ROOT

LOGS = ROOT / "runs" / "bench" / "logs"
START_S = 240.0
STOP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """How to start a server, and where it says that it is ready."""

    name: str
    command: tuple[str, ...]
    port: int
    ready: str
    environment: Mapping[str, str]


@contextmanager
def running(start: Start, threads: int) -> Iterator[None]:
    """Ready; what it writes goes to ``LOGS``. ``threads`` are those of one forward pass."""
    print(f"  starting {start.name}", flush=True)
    own = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        **start.environment,
    }
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{re.sub('[^a-z0-9]+', '-', start.name)}.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            start.command,
            cwd=ROOT,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C reaches it by way of this process alone
        )
    try:
        _wait_until_ready(process, start, log)
        yield
    finally:
        _stop(process)


def get(port: int, path: str) -> int:
    """Status of a GET; raises ``OSError`` where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def _wait_until_ready(process: subprocess.Popen[bytes], start: Start, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{start.name} ended with status {process.returncode}: see {log}")
        try:
            if get(start.port, start.ready) == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{start.name} was not ready after {START_S:.0f} s: see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; what is left of it and its descendants is ended by id."""
    started: Sequence[processes.Process] = []
    if process.poll() is None:
        started = list(processes.descendants(process.pid))
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    processes.end(set(started), 3)
