"""A service whose replicas can be exchanged gracefully, as they are when Serve scales or drains.

Deployed anew from Python, every deployment of an application would be exchanged; here the Monitor
has a version of its own that stays.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from service.startup import free_ports
from tests.integration.restartable_service import ASKED, Settings
from tests.integration.running import Service

_PROGRAM = (sys.executable, "-m", "tests.integration.restartable_service")


def restartable(bundles: Sequence[Path], replicas: int, **options: object) -> Service:
    """Start it; ``options`` are fields of ``ServiceConfig``."""
    port, grpc_port = free_ports(2)
    settings = Settings(
        bundles=tuple(map(str, bundles)),
        port=port,
        grpc_port=grpc_port,
        replicas=replicas,
        options=options,
    )
    return Service([*_PROGRAM, settings.json()], port, grpc_port)


def restart(service: Service) -> None:
    """Exchange all replicas; returns when the new ones answer."""
    asked = service.folder / ASKED
    asked.touch()
    service.wait_until(lambda: not asked.exists(), "all replicas have been exchanged")
