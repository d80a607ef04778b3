"""A replica's side of a rollout: carries out the plan, and says how far it is.

Bundles are loaded in a thread beside the ones that answer; a swap is one assignment on the event
loop. Nothing here can end the replica: without a Monitor it goes on with what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.rollout import Plan, Report, Target
from service.served import Models, ServedModel, Shadow

logger = logging.getLogger("oodgate")

#: How long the Monitor may keep a question for the plan open while there is nothing new.
IDLE_S = 2.0
#: The same while something is being loaded.
BUSY_S = 0.1
#: Between two attempts to reach a Monitor that does not answer.
RETRY_S = 1.0
#: Between two attempts to load what the plan serves and this replica could not.
REFUSED_RETRY_S = 10.0

Load = Callable[[Path], ServedModel]
Sync = Callable[[str, Report, float], Awaitable[Plan]]


class Follower:
    """Keeps ``models`` as the plan says. ``load`` is slow and runs in a thread of its own."""

    def __init__(self, models: Models, plan: Plan, load: Load, sync: Sync) -> None:
        self._models = models
        self._plan = plan
        self._load = load
        self._sync = sync
        self._replica = uuid.uuid4().hex
        self._loaded: dict[Target, ServedModel] = {
            target: models.find(target.name, target.version) for target in plan.serving
        }
        self._refused: dict[Target, str] = {}
        self._retry_at = 0.0
        self._loading: dict[Target, asyncio.Task[None]] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        self._follow(plan)

    @property
    def replica(self) -> str:
        """How the Monitor knows this replica."""
        return self._replica

    def start(self) -> None:
        """Begin to follow, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Follow no more."""
        own = () if self._task is None else (self._task,)
        for task in (*own, *self._loading.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            report = Report(
                seen=self._plan.number,
                number=self._number,
                loaded=frozenset(self._loaded),
                refused=dict(self._refused),
            )
            wait_s = BUSY_S if self._loading else IDLE_S
            try:
                async with asyncio.timeout(wait_s + 5):
                    plan = await self._sync(self._replica, report, wait_s)
            except Exception as error:
                logger.warning("the plan of what to serve cannot be read, will retry: %r", error)
                await asyncio.sleep(RETRY_S)
                continue
            self._follow(plan)

    def _follow(self, plan: Plan) -> None:
        """Load what is missing; once all is there that the plan serves, serve it."""
        if plan.number > self._plan.number:
            self._refused.clear()  # another wish, another try
        self._forget_old_refusals(plan)
        self._plan = plan
        wanted = plan.targets()
        for target in wanted - self._loaded.keys() - self._refused.keys() - self._loading.keys():
            task = asyncio.get_running_loop().create_task(self._fetch(target))
            self._loading[target] = task
        if self._loaded.keys() >= set(plan.serving):
            self._serve(plan)
        for target in (self._loaded.keys() | self._refused.keys()) - wanted:
            if not self._answers(target):
                self._loaded.pop(target, None)
            self._refused.pop(target, None)

    def _forget_old_refusals(self, plan: Plan) -> None:
        """What all others serve is tried again and again; a wish is tried once."""
        now = time.monotonic()
        if now < self._retry_at:
            return
        self._retry_at = now + REFUSED_RETRY_S
        for target in (*plan.serving, *(target for target, _ in plan.shadows)):
            self._refused.pop(target, None)

    def _answers(self, target: Target) -> bool:
        """Whether requests still go there, since what is to follow is not loaded yet."""
        loaded = self._loaded.get(target)
        return loaded is not None and any(model is loaded for model in self._models)

    def _serve(self, plan: Plan) -> None:
        for target in plan.serving:
            self._models.put(self._loaded[target])
        self._models.shadows = {
            target.name: Shadow(self._loaded[target], share)
            for target, share in plan.shadows
            if target in self._loaded
        }
        self._number = plan.number

    async def _fetch(self, target: Target) -> None:
        try:
            loop = asyncio.get_running_loop()
            model = await loop.run_in_executor(self._loader, self._load, Path(target.path))
            if (model.name.name, model.name.version) != (target.name, target.version):
                raise ValueError(
                    f"{target.path} is {model.name.name} {model.name.version} here, expected "
                    f"{target.name} {target.version}: have the same bundle on every node"
                )
            self._loaded[target] = model
        except Exception as error:  # whatever is wrong with a bundle, the old one goes on
            logger.warning("%s %s was not loaded: %s", target.name, target.version, error)
            self._refused[target] = str(error) or repr(error)
        finally:
            del self._loading[target]
        self._follow(self._plan)
