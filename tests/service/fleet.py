"""Replicas that follow one rollout on one event loop, with bundles that load at a word."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service import follower as module
from service.bundle import BundleError
from service.follower import Follower
from service.rollout import Plan, Report, Rollout, Target
from service.served import Models, ServedModel
from tests.service.fakes import model

WAIT_S = 60


def target(version: str, name: str = "digits") -> Target:
    return Target(name, version, f"/bundles/{name}/{version}")


class Replica:
    """Serves what the plan says; what is ``broken`` cannot be loaded, and ``closed`` takes time."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.broken: dict[Target, Exception] = {}
        self.renamed: dict[Target, str] = {}
        self.closed = threading.Event()
        self.closed.set()
        self.attempts: list[Target] = []
        self.questions = 0
        self.report = Report(seen=0, number=0, loaded=frozenset())
        self.models = Models([])

    async def start(self, configured: Iterable[Target]) -> None:
        plan = await self.rollout.begin(tuple(configured))
        self.models = Models([self._load(Path(t.path)) for t in plan.serving])
        self.follower = Follower(self.models, plan, self._load, self._sync)
        self.follower.start()

    async def stop(self) -> None:
        await self.follower.stop()
        self.rollout.forget(self.follower.replica)

    def versions(self) -> dict[str, str]:
        return {served.name.name: served.name.version for served in self.models}

    def shadows(self) -> dict[str, tuple[str, float]]:
        found = self.models.shadows
        return {name: (s.model.name.version, s.share) for name, s in found.items()}

    async def _sync(self, replica: str, report: Report, wait_s: float) -> Plan:
        self.report = report
        self.questions += 1
        return await self.rollout.sync(replica, report, wait_s)

    def _load(self, path: Path) -> ServedModel:
        asked = target(path.name, path.parent.name)
        self.attempts.append(asked)
        assert self.closed.wait(WAIT_S)
        if asked in self.broken:
            raise self.broken[asked]
        return model(asked.name, self.renamed.get(asked, asked.version))


@asynccontextmanager
async def fleet(
    count: int, *configured: Target, rollout: Rollout | None = None
) -> AsyncIterator[tuple[Rollout, list[Replica]]]:
    """Replicas that have all reported once, ended in good order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BUSY_S", 0.001)
        patch.setattr(module, "IDLE_S", 0.05)
        patch.setattr(module, "RETRY_S", 0.001)
        rollout = rollout or Rollout()
        replicas = [Replica(rollout) for _ in range(count)]
        try:
            for replica in replicas:
                await replica.start(configured or (target("1"),))
            await until(lambda: rollout.replicas() == count)
            yield rollout, replicas
        finally:
            for replica in replicas:
                replica.closed.set()
                await replica.stop()


async def until(true: Callable[[], bool]) -> None:
    """Fails where it does not become true at all."""
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.001)


def refusal(text: str) -> BundleError:
    return BundleError(text)
