"""Checks before anything is started: the host, the ports, and what a refusal says."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

from service.loopback import LOOPBACK

LOOPBACK_HOSTS = (LOOPBACK, "localhost")


class StartupError(Exception):
    """Why the service cannot start, or has ended; for the command line to print."""


def checked_host(host: str, insecure: bool) -> str:
    """The address to bind; only loopback without being asked twice."""
    if host in LOOPBACK_HOSTS:
        return LOOPBACK
    if not insecure:
        raise StartupError(
            f"host {host} can be reached from other machines, and this service has no "
            "authentication of its own yet: serve on 127.0.0.1 and put an authenticating proxy in "
            "front, or pass --insecure"
        )
    return host


def check_ports(host: str, port: int, grpc_port: int) -> None:
    """Refuse at once a port that cannot be bound, by its number and its flag."""
    if port == grpc_port:
        raise StartupError(f"port {port} is asked for both HTTP and gRPC: choose two")
    for name, number in (("--port", port), ("--grpc-port", grpc_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, number))
            except OSError as error:
                raise StartupError(
                    f"port {number} on {host} cannot be used ({error.strerror}): stop what uses "
                    f"it, or choose another {name}"
                ) from error


def check_compiles() -> None:
    """Refuse at once where ``torch.compile`` does not work, before Ray starts replicas that try.

    In a process of its own: the compiler's 400 MB would stay in this one as long as it serves.
    """
    command = [sys.executable, "-m", "model.compiling"]
    root = Path(__file__).resolve().parent.parent
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    if found.returncode:
        raise StartupError(found.stderr.strip().rpartition("\n")[2])


def free_ports(count: int) -> list[int]:
    """Different ports that are free on loopback at this moment."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
