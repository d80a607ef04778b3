"""A Ray cluster for tests: each node a ``ray start`` of its own on loopback, ended by its ids."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from service import processes
from service.startup import free_ports
from tests.integration.running import ROOT, Service, environment


class Cluster:
    """A head without processors for work, and worker nodes with one each."""

    def __init__(self, workers: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="o"))
        self.port, self._client_port = free_ports(2)
        self.settings = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0",
            "TMPDIR": str(self.folder),
        }
        head = ["--head", f"--port={self.port}", "--include-dashboard=false"]
        head += [f"--ray-client-server-port={self._client_port}"]
        self.nodes = [self._start("head", *head, f"--temp-dir={self.folder}")]
        Service.wait_until(self._listens, "the head listens")
        for number in range(workers):
            self.nodes.append(self._start(f"node-{number}", f"--address={self.address}"))

    @property
    def address(self) -> str:
        """For ``--address``."""
        return f"127.0.0.1:{self.port}"

    def _listens(self) -> bool:
        """Both ports: its client server comes up long after the head itself."""
        for port in (self.port, self._client_port):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return True

    @property
    def client(self) -> str:
        """For a driver that stays outside."""
        return f"ray://127.0.0.1:{self._client_port}"

    def environment(self) -> dict[str, str]:
        """Of a driver that may join."""
        return environment(**self.settings)

    def kill(self, number: int) -> None:
        """A whole node at once, as if its machine had lost power."""
        node = self.nodes[number]
        for process in {*processes.descendants(node.pid)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        node.kill()
        node.wait()

    def close(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            if node.poll() is None:
                started = processes.descendants(node.pid)
                node.terminate()
                node.wait(60)
                processes.end(started, 5)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
        with (self.folder / f"{name}.txt").open("wb") as output:
            return subprocess.Popen(
                [*command, "--node-ip-address=127.0.0.1", *flags],
                cwd=ROOT,
                env=self.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
