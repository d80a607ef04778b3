"""The Ray Serve application: one ingress deployment that holds the model, and one Monitor.

``build`` is Serve's typed application builder, so ``ServiceConfig`` is exactly ``args:`` in
``deploy/serve.yaml``. (No postponed annotations in this module: the builder would then silently
pass a dict.) Processes, ports and signals are in ``serve.py``.
"""

import asyncio
import logging
import sys
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from service.answer import ModelName
from service.bundle import Bundle
from service.config import ServiceConfig
from service.engine import Engine, Item, Outcome
from service.grpc_api import GrpcFace
from service.http_api import create_app
from service.monitor import Monitor, Reporter, Tally
from service.predictor import Predictor

#: Places beyond the admitted requests, so that refusals, probes and scrapes are answered as well.
SPARE_PLACES = 64

_MONITOR: dict[str, Any] = {
    "num_replicas": 1,
    "max_ongoing_requests": 100,
    "ray_actor_options": {"num_cpus": 0.05},
}


@serve.ingress()
class Gateway(GrpcFace):
    """Holds the model and both faces of it."""

    _reporter: Reporter | None = None

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ServiceConfig, monitor: DeploymentHandle[Monitor]
    ) -> None:
        log_to_terminal()
        torch.set_num_threads(config.threads)
        bundle = Bundle.load(config.bundle)
        self._monitor = monitor
        batch: Any = self._batch  # the decorator's own methods are on it
        batch.set_max_batch_size(config.max_batch_size)
        batch.set_batch_wait_timeout_s(config.batch_wait_timeout_s)
        self.engine = Engine(
            predictor=Predictor(
                bundle, "cuda" if config.num_gpus else "cpu", compiled=config.compile
            ),
            model=ModelName(name=bundle.name, version=bundle.version),
            limits=config.limits(),
            submit=self._batch,
        )
        self.engine.warm_up((1, config.max_batch_size))
        self._reporter = Reporter(self.engine.tally, self._send, standing=self.engine.standing)
        self._reporter.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self.engine, self._exposition)

    @serve.batch
    async def _batch(self, items: list[Item]) -> list[Outcome]:
        return await self.engine.infer(items)

    async def __del__(self) -> None:
        """Serve awaits this when a replica stops gracefully."""
        if self._reporter is not None:  # else the replica never came up
            await self._reporter.stop()

    async def _send(self, source: str, number: int, delta: Tally) -> None:
        await self._monitor.record.remote(source, number, delta)

    async def _exposition(self) -> bytes:
        text: bytes = await asyncio.wait_for(self._monitor.exposition.remote(), 5)
        return text


def log_to_terminal() -> None:
    """Serve takes a replica's ``sys.stderr`` for lines below its log level, and drops them.

    Ray carries the real one to where ``oodgate serve`` runs.
    """
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("oodgate")
    logger.handlers = [handler]
    logger.propagate = False


def build(config: ServiceConfig) -> Application:
    """One Monitor, and as many Gateways as there are replicas."""
    monitor = serve.deployment(name="Monitor", **_MONITOR)(Monitor)
    places = max(config.max_queued_requests, 2 * config.max_batch_size) + SPARE_PLACES
    gateway = serve.deployment(
        name="Gateway",
        num_replicas=config.replicas,
        max_ongoing_requests=places,
        max_queued_requests=places,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        graceful_shutdown_timeout_s=15,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
    )(Gateway)
    return gateway.bind(config, monitor.bind())
