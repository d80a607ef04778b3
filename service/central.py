"""The Monitor as a deployment: totals of all replicas, and the plan of what they serve.

Apart from ``app.py``, so that a Monitor starts, and comes back, without torch.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from ray.experimental import internal_kv

from calibration.drift import AlarmBudget
from service import shedding
from service.errors import BusyError, DeployError
from service.metrics import RELOADS, SHADOW, SHED
from service.monitor import Monitor
from service.rollout import Outcome, Plan, Report, Rollout, Target
from service.terminal import log_to_terminal


class Central(Monitor):
    """The Monitor deployment: totals of all replicas, and the plan of what they serve.

    The plan is kept in the cluster's own key-value store, so it outlives this process; another
    configuration begins with a plan of its own.
    """

    def __init__(self, bundles: Sequence[str], budget: AlarmBudget) -> None:
        """``bundles``: paths in the configuration.

        Nothing else of it: where an argument changes Serve starts this anew, and totals are gone.
        """
        super().__init__(budget)
        log_to_terminal()
        self._refused = shedding.refused() or 0
        self._looking = asyncio.Lock()
        for outcome in ("swapped", "shadowed", "ended", "refused"):
            self._totals.count(RELOADS, outcome, by=0)
        digest = hashlib.sha256("\n".join(bundles).encode()).hexdigest()
        key = f"oodgate-plan-{digest}".encode()
        saved = internal_kv._internal_kv_get(key)

        def save(text: str) -> None:
            internal_kv._internal_kv_put(key, text.encode())

        self._rollout = Rollout(None if saved is None else saved.decode(), save)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """See ``Monitor.exposition``; what HAProxy has refused is counted by then."""
        async with self._looking:  # two who ask at once must not both count the same
            await self._count_refused()
        self.served((target.name, target.version) for target in self._rollout.plan.serving)
        return await super().exposition(accept)

    async def _count_refused(self) -> None:
        refused = await asyncio.to_thread(shedding.refused)
        if refused is None:  # no answer says nothing; what it refuses meanwhile is counted later
            return
        # less than before: HAProxy has started again
        self._totals.count(SHED, by=refused - self._refused * (refused >= self._refused))
        self._refused = refused

    async def begin(self, configured: tuple[Target, ...]) -> Plan:
        """See ``Rollout.begin``."""
        return await self._rollout.begin(configured)

    async def sync(self, replica: str, report: Report, wait_s: float) -> Plan:
        """See ``Rollout.sync``."""
        return await self._rollout.sync(replica, report, wait_s)

    async def forget(self, replica: str) -> None:
        """See ``Rollout.forget``."""
        self._rollout.forget(replica)

    async def deploy(self, target: Target, share: float | None) -> Outcome:
        """Swap, or with a share shadow, and count how it went."""
        try:
            if share is None:
                done = await self._rollout.deploy(target)
            else:
                done = await self._rollout.shadow(target, share)
        except BusyError:
            raise
        except DeployError:
            await self.count(RELOADS, "refused")
            raise
        await self.count(RELOADS, "swapped" if share is None else "shadowed")
        return done

    async def end_shadow(self, name: str) -> None:
        """See ``Rollout.end_shadow``."""
        await self._rollout.end_shadow(name)
        await self.count(RELOADS, "ended")

    async def state(self) -> tuple[Plan, int, dict[tuple[str, ...], int]]:
        """The plan, how many replicas follow it, and what shadows have decided."""
        return self._rollout.plan, self._rollout.replicas(), await self.values(SHADOW)
