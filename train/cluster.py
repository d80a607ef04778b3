"""A Ray cluster's address, and whether anything answers there.

Neither Ray nor torch in it: an address where nothing answers is found within seconds, before
either is imported. Whether what answers there is a Ray is Ray's to find out.
"""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

#: How long an address may take to answer.
PATIENCE_S = 5.0

#: The port of ``ray://host``, Ray's client server.
_CLIENT_PORT = 10001


class ClusterError(RuntimeError):
    """Training on Ray could not begin, or was ended from outside."""


def check_address(address: str) -> None:
    """Raise ``ClusterError`` where nothing answers at ``address``, in one of Ray's forms.

    They are ``host:port``, ``ray://host:port``, ``auto`` (the Ray last started on this machine) and
    ``local`` (one that is not there yet).
    """
    if address == "local":
        return
    if address == "auto":
        found = _last_started()
        if found:  # where there is none, Ray looks for others
            _knock(found, f"auto, which is {found}")
        return
    _knock(address, address)


def unreachable(shown: str, reason: object) -> ClusterError:
    """The error of an address where there is no Ray."""
    return ClusterError(
        f"cannot reach Ray at {shown}: {reason}; start it there (ray start --head), mend --address "
        "or RAY_ADDRESS, or leave both out for a Ray of this machine"
    )


def _knock(address: str, shown: str) -> None:
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, port), PATIENCE_S).close()
    except (OSError, UnicodeError) as error:  # the latter: a name that none can have
        raise unreachable(shown, error) from error


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        port = parts.port or (_CLIENT_PORT if parts.scheme == "ray" else None)
        if port and parts.hostname and parts.scheme in ("", "ray"):
            return parts.hostname, port
    except ValueError:  # a port that is no number, or beyond 65535
        pass
    raise ClusterError(
        f"Ray's address {address!r}: expected host:port, ray://host:port or auto; mend --address "
        "or RAY_ADDRESS"
    )


def _last_started() -> str:
    """Where Ray notes it; empty where it did not."""
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
    try:
        return (folder / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return ""
