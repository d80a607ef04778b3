"""``oodgate serve`` and, on demand, the same application with another limit.

``python -m tests.integration.restartable_service SETTINGS_JSON``, where ``restarting.py`` writes
the settings. Ray is imported inside functions: ``service.serve`` wants to be there before it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import cluster
from service.config import ServiceConfig
from service.serve import Where, serve

if TYPE_CHECKING:
    from ray.serve import Application

#: Where a file of this name appears in the service's folder, replicas are exchanged; it goes then.
ASKED = "restart"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is served and where; ``options`` are fields of ``ServiceConfig``."""

    bundles: tuple[str, ...]
    port: int
    grpc_port: int
    replicas: int
    options: dict[str, Any]

    def json(self) -> str:
        return json.dumps(asdict(self))


class Restartable:
    """Takes the place of ``cluster.start_serve``, and can deploy what that has deployed anew."""

    def __init__(self, start: Callable[..., None]) -> None:
        self._start = start
        self._config: ServiceConfig | None = None

    def start(self, config: ServiceConfig, *where: Any) -> None:
        from service import app

        setattr(app, "build", _with_the_same_monitor(app.build))  # noqa: B010
        self._config = config
        self._start(config, *where)

    def restart(self) -> None:
        from ray import serve
        from ray.serve.schema import LoggingConfig

        from service.app import build

        assert self._config is not None, "the service has not started"
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        longer = {"queue_timeout_s": self._config.queue_timeout_s + 1}
        self._config = self._config.model_copy(update=longer)
        serve.run(build(self._config), name=cluster.APPLICATION, logging_config=quiet)

    def watch(self, asked: Path) -> None:
        while True:
            time.sleep(0.1)
            if asked.exists():
                self.restart()
                asked.unlink()


def _with_the_same_monitor(
    build: Callable[[ServiceConfig], Application],
) -> Callable[[ServiceConfig], Application]:
    """Deployments without a version are exchanged each time; the Monitor gets one that stays."""

    def built(config: ServiceConfig) -> Application:
        application = build(config)
        arguments: tuple[Any, ...] = application._bound_deployment.init_args
        monitor = arguments[1]
        monitor._bound_deployment._version = "kept"
        return application

    return built


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    restartable = Restartable(cluster.start_serve)
    setattr(cluster, "start_serve", restartable.start)  # noqa: B010
    asked = Path(os.environ["TMPDIR"], ASKED)
    threading.Thread(target=restartable.watch, args=(asked,), daemon=True).start()
    serve(
        [Path(bundle) for bundle in settings.bundles],
        Where(port=settings.port, grpc_port=settings.grpc_port),
        replicas=settings.replicas,
        access_log="none",
        options=settings.options,
    )


if __name__ == "__main__":
    main()
