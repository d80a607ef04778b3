"""The Ray Serve application: one ingress deployment that holds the models, and one Monitor.

``build`` is Serve's typed application builder, so ``ServiceConfig`` is exactly ``args:`` in
``deploy/serve.yaml``. (No postponed annotations in this module: the builder would then silently
pass a dict.) Processes, ports and signals are in ``serve.py``.
"""

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.handle import DeploymentHandle

from calibration.scored_rows import ScoredRows
from service import served
from service.access_log import AccessLog
from service.admin import Admin, target_of
from service.bundle import BundleError
from service.central import Central
from service.config import NO_LOG, STDERR, ServiceConfig
from service.drift_feed import DriftFeed, Look
from service.drift_sight import Sight
from service.engine import READERS, Engine
from service.follower import Follower
from service.grpc_api import GrpcFace
from service.http_api import Doors, create_app
from service.keys import ADMIN_KEYS, API_KEYS, Keys
from service.oip.rpc import InferenceFace
from service.quarantine import Quarantine
from service.recorder import Recorder
from service.reporter import Reporter
from service.rollout import Plan, Report
from service.served import Models, Runtime, ServedModel
from service.standing import standing
from service.tally import Tally
from service.terminal import log_to_terminal

#: Places beyond the admitted requests, so that refusals, probes and scrapes are answered as well.
SPARE_PLACES = 64

#: How long a replica that stops tries to tell the Monitor.
FAREWELL_S = 1.0

_MONITOR: dict[str, Any] = {
    "num_replicas": 1,
    "max_ongoing_requests": 1000,
    "health_check_period_s": 2,
    "ray_actor_options": {"num_cpus": 0.05},
}


@serve.ingress()
class Gateway(GrpcFace, InferenceFace):
    """Holds the models and every face of them."""

    #: What tells the Monitor; None until the replica has come up.
    _reporting: tuple[Reporter | DriftFeed, ...] | None = None

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ServiceConfig, monitor: DeploymentHandle[Central]
    ) -> None:
        log_to_terminal()
        torch.set_num_threads(config.threads)
        self._config = config
        self._monitor = monitor
        self._recorder = _recorder(config)
        self._runtime = _runtime(config)
        plan = await monitor.begin.remote(tuple(target_of(path) for path in config.bundles))
        models = Models([self._load_first(Path(target.path)) for target in plan.serving])
        self.engine = Engine(models=models, limits=config.limits(), recorder=self._recorder)
        self.keys = Keys(config.api_keys_file, API_KEYS)
        self._admin = Admin(monitor, Keys(config.admin_keys_file, ADMIN_KEYS))
        self._follower = Follower(models, plan, self._load, self._sync)
        self._follower.start()
        reporter = Reporter(
            self._recorder.tally, self._send, standing=lambda: standing(models, self._gpu_bytes())
        )
        feed = DriftFeed(models, _Remote(monitor))
        self._reporting = (reporter, feed) if config.monitor else ()
        for part in self._reporting:
            part.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        doors = Doors(
            keys=self.keys,
            admin=self._admin,
            allowed_hosts=self._config.allowed_hosts,
            cors_origins=self._config.cors_origins,
        )
        return create_app(self.engine, doors, self._exposition, self.statistics)

    def _load(self, path: Path) -> ServedModel:
        note, watch = self._recorder.batch, self._config.monitor
        return served.load(path, self._runtime, note, watch=watch)

    def _load_first(self, path: Path) -> ServedModel:
        try:
            return self._load(path)
        except BundleError as error:
            logging.getLogger("oodgate").error(
                "a replica cannot start: %s; put the bundle back, or deploy another one", error
            )
            raise

    async def __del__(self) -> None:
        """Serve awaits this when a replica stops gracefully."""
        if self._reporting is not None:
            await self._follower.stop()
            await asyncio.gather(*(part.stop() for part in self._reporting))
            with contextlib.suppress(Exception):  # when all ends, the Monitor may have gone first
                async with asyncio.timeout(FAREWELL_S):
                    await self._monitor.forget.remote(self._follower.replica)

    async def _send(self, source: str, number: int, delta: Tally) -> None:
        await self._monitor.record.remote(source, number, delta)

    async def _sync(self, replica: str, report: Report, wait_s: float) -> Plan:
        plan: Plan = await self._monitor.sync.remote(replica, report, wait_s)
        return plan

    def _gpu_bytes(self) -> int | None:
        return torch.cuda.memory_reserved() if self._config.num_gpus else None

    async def _exposition(self, accept: str) -> tuple[bytes, str]:
        found: tuple[bytes, str] = await asyncio.wait_for(
            self._monitor.exposition.remote(accept), 5
        )
        return found

    async def statistics(self) -> dict[tuple[str, ...], int]:
        """What the Open Inference Protocol reports of each version, over all replicas."""
        found: dict[tuple[str, ...], int] = await asyncio.wait_for(
            self._monitor.statistics.remote(), 5
        )
        return found


class _Remote(Look):
    """The Monitor, as a replica shows it scores."""

    def __init__(self, monitor: DeploymentHandle[Central]) -> None:
        self._monitor = monitor

    async def observe(self, sight: Sight) -> bool:
        known: bool = await self._monitor.observe.remote(sight)
        return known

    async def introduce(self, name: str, version: str, reference: ScoredRows, classes: int) -> None:
        await self._monitor.introduce.remote(name, version, reference, classes)


def _runtime(config: ServiceConfig) -> Runtime:
    return Runtime(
        executor=ThreadPoolExecutor(1, thread_name_prefix="forward"),
        aside=ThreadPoolExecutor(1, thread_name_prefix="aside"),
        device="cuda" if config.num_gpus else "cpu",
        compiled=config.compile,
        max_batch_size=config.max_batch_size,
        max_waiting=config.max_queued_images,
        wait_s=config.batch_wait_timeout_s,
    )


def _recorder(config: ServiceConfig) -> Recorder:
    log = None
    if config.access_log != NO_LOG:
        log = AccessLog(None if config.access_log == STDERR else Path(config.access_log))
    quarantine = None
    if config.quarantine is not None:
        quarantine = Quarantine(config.quarantine, config.quarantine_files, config.quarantine_bytes)
    return Recorder(Tally(), log, quarantine, counting=config.monitor)


def build(config: ServiceConfig) -> Application:
    """One Monitor, and as many Gateways as there are replicas."""
    monitor = serve.deployment(name="Monitor", **_MONITOR)(Central)
    places = (READERS + 1) * config.max_queued_requests + SPARE_PLACES
    gateway = serve.deployment(
        name="Gateway",
        **_scale(config, places),
        max_ongoing_requests=places,
        max_queued_requests=places,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        graceful_shutdown_timeout_s=15,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=2,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
    )(Gateway)
    return gateway.bind(config, monitor.bind(list(map(str, config.bundles)), config.budget()))


def _scale(config: ServiceConfig, places: int) -> dict[str, Any]:
    """A fixed number of replicas, or Serve's autoscaling by the requests on their way."""
    if config.max_replicas is None:
        return {"num_replicas": config.replicas}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=config.replicas,
            max_replicas=config.max_replicas,
            target_ongoing_requests=max(1, min(places, config.max_batch_size) // 2),
        )
    }
