"""Checks before anything is started: the host, the ports, and what a refusal says."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from service.loopback import LOOPBACK

LOOPBACK_HOSTS = (LOOPBACK, "localhost")

#: Linux says here which ports it hands out itself: the lowest and the highest.
_KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class StartupError(Exception):
    """Why the service cannot start, or has ended; for the command line to print."""


def checked_host(host: str, insecure: bool, keys: bool) -> str:
    """The address to bind; other than loopback only with API keys, or without being asked twice."""
    if host in LOOPBACK_HOSTS:
        return LOOPBACK
    if not (keys or insecure):
        raise StartupError(
            f"host {host} can be reached from other machines: pass --api-keys FILE (one key a "
            "line) or set $OODGATE_API_KEYS, serve on 127.0.0.1 behind a proxy that authenticates, "
            "or pass --insecure to let anybody ask"
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


def check_tls(certificate: Path, key: Path) -> None:
    """Refuse at once a certificate that cannot be served: HAProxy would say so after a minute."""
    try:
        # an encrypted key fails by its empty password; else it would be asked for on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise StartupError(
            f"--tls-cert {certificate}, --tls-key {key}: {error}; expected a certificate chain and "
            "its key, unencrypted, both in PEM"
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
    """Different ports that are free on loopback at this moment, and likely to stay so.

    Seconds pass before a port is bound by what it was chosen for. Meanwhile the kernel gives the
    ports of its own range to outgoing connections and to whoever asks for any: those are avoided.
    """
    numbers = _unasked_for()
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for number in secrets.SystemRandom().sample(numbers, k=len(numbers)):
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, number))
                found.append(number)
            if len(found) == count:
                return found
    raise StartupError(
        f"{count} free ports are needed and {len(found)} of {numbers[0]} to {numbers[-1]} are "
        f"free on {LOOPBACK}: stop what uses them"
    )


def _unasked_for() -> range:
    """The ports between those of Ray's workers (to 19999) and of Serve's replicas (from 30000)
    that the kernel gives to nobody who did not name them; all of them where it keeps few back.
    """
    first, end = 20_000, 30_000
    try:
        lowest = int(_KERNEL_RANGE.read_text().split()[0])
    except OSError:  # not Linux; the range of others begins higher
        lowest = end
    return range(first, min(lowest, end) if lowest > first + 1_000 else end)
