"""Checks before anything is started: the host, the ports, and what a refusal says."""

from __future__ import annotations

import contextlib
import socket

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


def free_ports(count: int) -> list[int]:
    """Different ports that are free on loopback at this moment."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
