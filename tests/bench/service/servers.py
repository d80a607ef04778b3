"""Servers as processes on free loopback ports, ended by their ids with all that they started."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from service import processes
from tests.bench.service.environments import ROOT

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
    """Ready; its output is shown if it never is. ``threads`` are those of one forward pass."""
    print(f"  starting {start.name}", flush=True)
    own = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        **start.environment,
    }
    with tempfile.TemporaryFile() as output:
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
            _wait_until_ready(process, start)
            yield
        except BaseException:
            output.seek(0)
            tail = output.read()[-3000:].decode(errors="replace")
            print(f"what {start.name} wrote last:\n{tail}", flush=True)
            raise
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


def _wait_until_ready(process: subprocess.Popen[bytes], start: Start) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{start.name} ended with status {process.returncode}")
        try:
            if get(start.port, start.ready) == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{start.name} was not ready after {START_S:.0f} s")


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
