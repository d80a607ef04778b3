"""Keeps what the service opens off other network interfaces when it serves on loopback.

Ray Serve 2.60 has a host option for its HTTP servers only. Under either ingress it binds, on every
interface and in plain text, the gRPC servers of proxies and replicas (8001, 40000+ and one random
port a replica), and under HAProxy the statistics and metrics pages. Ray runs ``apply`` at the start
of every worker process of this service (``worker_process_setup_hook``); it narrows both. An
integration test looks at the listening sockets, so a Ray that binds elsewhere is noticed.

Ray's own ports follow the address of its node, which ``environment`` makes 127.0.0.1.
"""

from __future__ import annotations

LOOPBACK = "127.0.0.1"

#: Ray takes 127.0.0.1 as its node's address, and so binds everything there. Named after the
#: platforms where that is the default, it works on all.
environment = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def apply() -> None:
    """In a Ray worker process, before Serve's modules are used."""
    _narrow_grpc()
    _narrow_haproxy()


def _narrow_grpc() -> None:
    from grpc.aio import _server  # the class that grpc.aio.server() gives; it has no public name

    bind = _server.Server.add_insecure_port

    def add_insecure_port(self: _server.Server, address: str) -> int:
        return int(bind(self, address.replace("[::]:", f"{LOOPBACK}:")))

    _server.Server.add_insecure_port = add_insecure_port


def _narrow_haproxy() -> None:
    from ray.serve._private import haproxy_templates as templates

    text = templates.HAPROXY_CONFIG_TEMPLATE
    for every_interface in ("bind :", "bind *:"):
        text = text.replace(every_interface, f"bind {LOOPBACK}:")
    templates.HAPROXY_CONFIG_TEMPLATE = text
