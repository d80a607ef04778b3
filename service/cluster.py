"""Ray and Serve as ``oodgate serve`` starts them: one node, of this process only.

What is read from the environment is set before Ray is imported, here and so in all it starts.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service import front_headers, loopback, no_application, shedding, worker
from service.config import ServiceConfig
from service.startup import StartupError, free_ports

APPLICATION = "oodgate"

#: gRPC's own limit over the service's, so that an over-limit image gets the service's answer.
GRPC_ENVELOPE_FACTOR = 2

#: What Serve is to do on any cluster; ``deploy/kuberay`` has the same.
ANYWHERE = {
    # Ray's workers step back for everything else on a machine; these are what it is there for
    "RAY_worker_niceness": "0",
    # Serve's own 5 s ends a proxy that is merely slow to import on a busy machine
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "55",
    # one that has died is noticed at the third look, and nobody is answered meanwhile
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # a request is an answer's only cause, so one whose replica died may be asked again, once
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "1",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    # a request that is asked again, or waited for until it is whole, has to fit
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
    # the model has threads of its own, so one loop can do Serve's work and ours: fewer hops
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    front_headers.CALLBACK[0]: front_headers.CALLBACK[1],
}

_START_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Files of a certificate chain and its key."""

    certificate: Path
    key: Path


def environment(
    config: ServiceConfig,
    folder: Path,
    host: str,
    grpc_port: int,
    *,
    haproxy: bool,
    tls: Tls | None = None,
) -> dict[str, str]:
    """What Ray reads once, at import, in this process and in all that it starts.

    Writes into ``folder`` what HAProxy reads from files.
    """
    settings = {
        **ANYWHERE,
        "RAY_USAGE_STATS_ENABLED": "0",
        # workers that Ray starts ahead know nothing of ``worker.py``, so they are never used
        "RAY_prestart_worker_first_driver": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if haproxy else "0",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # HAProxy's hour lets half-sent requests take all of its connections
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(math.ceil(config.read_timeout_s) + 5),
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(GRPC_ENVELOPE_FACTOR * config.max_body_bytes),
    }
    ports = (
        "RAY_SERVE_HAPROXY_METRICS_PORT",
        "RAY_SERVE_HAPROXY_STATS_PORT",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
        "AUTOSCALER_METRIC_PORT",
        "DASHBOARD_METRIC_PORT",
    )
    settings.update(zip(ports, map(str, free_ports(len(ports))), strict=True))
    settings.update(loopback.environment)
    settings[shedding.ADMITTED] = str(config.replicas * config.max_queued_requests)
    settings |= {worker.FRONT_HOST: host, worker.FRONT_GRPC_PORT: str(grpc_port)}
    if haproxy:
        settings.update(_haproxy_files(folder, tls))
    return settings


def _haproxy_files(folder: Path, tls: Tls | None) -> dict[str, str]:
    errors = folder / "error.http"
    errors.write_text(no_application.HTTP_ANSWER, newline="")
    files = {worker.ERROR_FILE: str(errors)}
    if tls is not None:
        pem = folder / "tls.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(tls.certificate.read_bytes() + b"\n" + tls.key.read_bytes())
        files[worker.TLS_PEM] = str(pem)
    return files


def start_ray(folder: Path) -> None:
    """A Ray of this process alone, whose sockets and logs are in ``folder``."""
    import ray

    hook = {"worker_process_setup_hook": "service.worker.apply"}
    ray.init(
        address="local",
        namespace=f"{APPLICATION}-{secrets.token_hex(4)}",
        include_dashboard=False,
        logging_level=logging.ERROR,
        runtime_env=hook,
        _temp_dir=str(folder / "ray"),
    )


def start_serve(
    config: ServiceConfig, host: str, port: int, grpc_port: int, haproxy: bool, tls: Tls | None
) -> None:
    """Serve and the application on it; returns when both front doors lead to a warm replica."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve._private.api import _create_controller_and_proxy_refs
    from ray.serve.config import ControllerOptions, HTTPOptions, gRPCOptions
    from ray.serve.schema import LoggingConfig

    from service.app import build
    from service.grpc_api import SERVICER_FUNCTIONS

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    try:
        # what `serve.start` does, but not its wait for the proxies: replicas start meanwhile
        _create_controller_and_proxy_refs(
            http_options=HTTPOptions(port=port, **_front(host, haproxy, tls)),
            grpc_options=gRPCOptions(
                port=grpc_port, grpc_servicer_functions=list(SERVICER_FUNCTIONS)
            ),
            global_logging_config=quiet,
            global_tracing_config=None,
            controller_options=ControllerOptions(),
        )
        serve.run(build(config), name=APPLICATION, logging_config=quiet)
    except (RayError, RuntimeError, TimeoutError) as error:
        raise StartupError(f"the service did not start: {_reason() or error}") from error
    local = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
    _wait_until_ready(local, port, grpc_port, tls, haproxy)
    if haproxy:
        _wait_for_haproxy(config.replicas)


def _front(host: str, haproxy: bool, tls: Tls | None) -> dict[str, Any]:
    """What Serve's own HTTP servers are told: behind HAProxy they speak plainly, on loopback."""
    if haproxy:
        return {"host": loopback.LOOPBACK}
    files = {} if tls is None else {"certfile": tls.certificate, "keyfile": tls.key}
    return {"host": host, **{f"ssl_{name}": str(path) for name, path in files.items()}}


def _reason() -> str:
    """Why a deployment failed, in the last line of what Serve reports."""
    from ray import serve

    try:
        application = serve.status().applications.get(APPLICATION)
    except Exception:  # there is no Serve to ask
        return ""
    deployments = application.deployments.values() if application else ()
    lines = [line for d in deployments for line in d.message.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _wait_until_ready(host: str, port: int, grpc_port: int, tls: Tls | None, haproxy: bool) -> None:
    """Until both front doors lead to a warm replica; of a certificate nothing is checked here."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    unchecked = ssl._create_unverified_context()  # noqa: S323  # this process's own service
    scheme = "http" if tls is None else "https"

    def http() -> None:
        url = f"{scheme}://{host}:{port}/readyz"
        urllib.request.urlopen(  # noqa: S310
            url, timeout=5, context=None if tls is None else unchecked
        ).close()

    def rpc() -> None:
        with grpc.insecure_channel(f"{host}:{grpc_port}") as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)

    def listening() -> None:
        socket.create_connection((host, grpc_port), timeout=5).close()

    deadline = time.monotonic() + _START_S
    _poll(http, OSError, deadline)
    if tls is not None and haproxy:  # gRPC would want the certificate's name
        _poll(listening, OSError, deadline)
    else:
        _poll(rpc, grpc.RpcError, deadline)


def _wait_for_haproxy(replicas: int) -> None:
    """Until HAProxy leads to every replica itself: it is replaced whenever it hears of another."""

    def settled() -> None:
        found = shedding.replicas_behind(APPLICATION)
        if found < replicas:
            raise ConnectionError(f"HAProxy leads to {found} of {replicas} replicas")

    _poll(settled, ConnectionError, time.monotonic() + _START_S)


def _poll(ask: Callable[[], None], failure: type[Exception], deadline: float) -> None:
    while True:
        try:
            return ask()
        except failure as error:
            if time.monotonic() > deadline:
                raise StartupError(f"the service did not become ready: {error}") from error
        time.sleep(0.1)
