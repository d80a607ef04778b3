"""Keeps everything but the two front doors off other network interfaces.

Ray Serve 2.60 has a host option for its HTTP servers only. Under either ingress it binds, on every
interface and in plain text, the gRPC servers of proxies and replicas (8001, 40000+ and one random
port a replica), and under HAProxy the statistics and metrics pages. ``worker.py`` narrows both in
every worker process; an integration test looks at the listening sockets.

Serve itself is told to be on loopback; the host that was asked for is given to HAProxy's front ends
alone, or, without HAProxy, to the proxy's two servers. Ray's own ports follow the address of its
node, which ``environment`` makes 127.0.0.1.
"""

from __future__ import annotations

LOOPBACK = "127.0.0.1"

#: Ray takes 127.0.0.1 as its node's address, and so binds everything there. Named after the
#: platforms where that is the default, it works on all.
environment = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def narrow_grpc(front_host: str, front_port: str) -> None:
    """Every gRPC server of this process binds loopback, the one of ``front_port`` its host."""
    from grpc.aio import _server  # the class that grpc.aio.server() gives; it has no public name

    bind = _server.Server.add_insecure_port

    def add_insecure_port(self: _server.Server, address: str) -> int:
        host = front_host if address == f"[::]:{front_port}" else LOOPBACK
        return int(bind(self, address.replace("[::]:", f"{host}:")))

    _server.Server.add_insecure_port = add_insecure_port


def narrowed_haproxy(template: str) -> str:
    """HAProxy's configuration, bound to loopback where it was bound to every interface."""
    for every_interface in ("bind :", "bind *:"):
        template = template.replace(every_interface, f"bind {LOOPBACK}:")
    return template
