"""Overload is refused by HAProxy, before it costs a replica anything.

A refusal in Python takes about as long as a small model takes for an image in a batch, so a flood
of them would take the place of answers. HAProxy counts what is on its way to the replicas and
refuses the rest in microseconds, with the service's own words. A replica still has its own bound
(``max_queued_requests``): for the Python proxy, and where HAProxy is not this service's.
"""

from __future__ import annotations

import csv
import io
import os
import socket
from pathlib import Path

from service.errors import OVERLOADED, OverloadedError

#: Requests that HAProxy lets through at once, for all replicas together.
ADMITTED = "OODGATE_ADMITTED"

_SOCKET = "RAY_SERVE_HAPROXY_SOCKET_PATH"
#: Kinds of rows that HAProxy's ``show stat`` can be asked for.
_FRONT_ENDS, _BACK_ENDS = 1, 2
_HTTP_PLACE = "    # Static routing based on path prefixes"
_GRPC_PLACE = "    # Route per-app on the `application` metadata"

_BODY = f'{{"error":"{OverloadedError()}","code":"{OVERLOADED.code}"}}'
_HTTP_RULE = (
    "{%- for backend in backends %}\n"
    f"    http-request deny deny_status {OVERLOADED.http} content-type application/json"
    f" string '{_BODY}' hdr Retry-After {OVERLOADED.retry_after_s}"
    " if METH_POST { be_conn({{ backend.name or 'unknown' }}) ge ADMITTED }"
    " !{ path_beg /admin/ }\n"
    "{%- endfor %}\n"
)
_GRPC_RULE = (
    "{%- for backend in grpc_backends %}\n"
    "    http-request deny deny_status 200 content-type application/grpc"
    f" hdr grpc-status {OVERLOADED.grpc.value[0]} hdr grpc-message '{OverloadedError()}'"
    " if { be_conn({{ backend.name or 'unknown' }}) ge ADMITTED }"
    " !{ path_beg /grpc.health.v1.Health/ }\n"
    "{%- endfor %}\n"
)


def in_haproxy(template: str, admitted: str) -> str:
    """HAProxy's configuration with a rule for each front end, before it chooses a backend."""
    for place, rule in ((_HTTP_PLACE, _HTTP_RULE), (_GRPC_PLACE, _GRPC_RULE)):
        template = template.replace(place, rule.replace("ADMITTED", admitted) + place)
    return template


def refused() -> int | None:
    """How many HAProxy has refused since it started; None where there is none, or no answer."""
    fronts = ("http_frontend", "grpc_frontend")
    rows = _statistics(_FRONT_ENDS)
    return None if rows is None else sum(int(r["dreq"] or 0) for r in rows if r["pxname"] in fronts)


def replicas_behind(application: str) -> int:
    """How many replicas HAProxy leads to by HTTP and by gRPC, the fewer; 0 without an answer.

    A HAProxy that has not heard of them yet leads to Serve's own proxy instead, and a new process
    takes its place when it has: that one knows nothing of what the first has in hand.
    """
    backends = [f"{protocol}-{application}" for protocol in ("http", "grpc")]
    active = {row["pxname"]: int(row["act"] or 0) for row in _statistics(_BACK_ENDS) or ()}
    return min(active.get(name, 0) for name in backends)


def _admin_socket() -> Path:
    """Of this machine's HAProxy, of which there is one: Serve puts it in a folder of the node's."""
    named = Path(os.environ[_SOCKET])
    return next(named.parent.glob(f"*/{named.name}"), named)


def _statistics(kind: int) -> list[dict[str, str]] | None:
    """HAProxy's own, a row for each of a kind; None where there is none, or no answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(1)
            asked.connect(str(_admin_socket()))
            asked.sendall(f"show stat -1 {kind} -1\n".encode())
            text = b"".join(iter(lambda: asked.recv(65536), b"")).decode()
    except (OSError, KeyError, UnicodeDecodeError):
        return None
    return list(csv.DictReader(io.StringIO(text.removeprefix("# "))))
