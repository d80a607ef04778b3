"""A service whose replicas can be exchanged gracefully, as they are when Serve scales or drains.

Deployed anew from Python, every deployment of an application would be exchanged; here the Monitor
has a version of its own that stays.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from service.startup import free_ports
from tests.integration.running import Service

#: Where a file of this name appears in the service's folder, replicas are exchanged; it goes then.
ASKED = "restart"

#: ``oodgate serve`` and, on demand, the same application with another limit.
_SERVE = f"""
import json, os, pathlib, sys, threading, time
from service import cluster
from service.serve import Where, serve

started, known = cluster.start_serve, {{}}

def start(config, *rest):
    from service import app

    build = app.build

    def with_the_same_monitor(config):
        built = build(config)
        monitor = built._bound_deployment.init_args[1]
        monitor._bound_deployment._version = "kept"
        return built

    app.build = with_the_same_monitor
    known["config"] = config
    started(config, *rest)

def restart():
    from ray import serve  # after the service has started: it sets the environment for Ray
    from ray.serve.schema import LoggingConfig
    from service.app import build

    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    config = known["config"]
    longer = config.model_copy(update={{"queue_timeout_s": config.queue_timeout_s + 1}})
    known["config"] = longer
    serve.run(build(longer), name=cluster.APPLICATION, logging_config=quiet)

def watch():
    asked = pathlib.Path(os.environ["TMPDIR"], "{ASKED}")
    while True:
        time.sleep(0.1)
        if asked.exists():
            restart()
            asked.unlink()

cluster.start_serve = start
threading.Thread(target=watch, daemon=True).start()
bundles, port, grpc_port, replicas, options = json.loads(sys.argv[1])
serve(
    [pathlib.Path(bundle) for bundle in bundles],
    Where(port=port, grpc_port=grpc_port),
    replicas=replicas,
    access_log="none",
    options=options,
)
"""


def restartable(bundles: Sequence[Path], replicas: int, **options: object) -> Service:
    """Start it; ``options`` are fields of ``ServiceConfig``."""
    port, grpc_port = free_ports(2)
    settings = [list(map(str, bundles)), port, grpc_port, replicas, options]
    return Service([sys.executable, "-c", _SERVE, json.dumps(settings)], port, grpc_port)


def restart(service: Service) -> None:
    """Exchange all replicas; returns when the new ones answer."""
    asked = service.folder / ASKED
    asked.touch()
    service.wait_until(lambda: not asked.exists(), "all replicas have been exchanged")
