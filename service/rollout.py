"""Which bundles all replicas serve, and how one is exchanged for another without a gap.

Replicas ask for the plan again and again (``sync``) and say how far they are. A new bundle is first
*staged*: every replica loads, warms and tests it beside the old one. Only when all of them have it
does the plan change to serve it, and the deployment has ended when all of them do; if one of them
refuses it, the plan goes back and nothing has changed for any caller. A replica that dies is not
waited for, one that starts later loads what the plan says.

There is no Ray in this module. The plan outlives its holder through ``save`` and ``saved``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from service.errors import BusyError, DeployError

#: A replica that has not asked for so long is not waited for.
LOST_AFTER_S = 10.0
#: After so long every replica that lives has asked a new holder of the plan.
GRACE_S = 5.0
#: How long a bundle may take to load, be compiled and tested on every replica.
STAGE_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Target:
    """One bundle in one version; ``path`` is where each node finds it."""

    name: str
    version: str
    path: str


@dataclass(frozen=True)
class Plan:
    """What is to be served. ``number`` grows with each change; ``shadows``: target and share."""

    number: int = 0
    serving: tuple[Target, ...] = ()
    staged: Target | None = None
    shadows: tuple[tuple[Target, float], ...] = ()

    def targets(self) -> set[Target]:
        """Everything that a replica has to have loaded."""
        staged = () if self.staged is None else (self.staged,)
        return {*self.serving, *staged, *(target for target, _ in self.shadows)}

    def to_json(self) -> str:
        """For ``from_json``."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """What ``to_json`` wrote; nothing is staged any more."""
        data = json.loads(text)
        return cls(
            number=data["number"],
            serving=tuple(Target(**target) for target in data["serving"]),
            shadows=tuple((Target(**target), share) for target, share in data["shadows"]),
        )


@dataclass(frozen=True)
class Report:
    """How far a replica is: the plans that it has seen last and carried out, what it can load."""

    seen: int
    number: int
    loaded: frozenset[Target]
    refused: Mapping[Target, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a deployment came to: on how many replicas it is done, and how many are ``behind``."""

    name: str
    version: str
    previous: str | None
    replicas: int
    behind: int
    seconds: float


class Rollout:
    """Holds the plan; one deployment at a time."""

    def __init__(self, saved: str | None = None, save: Callable[[str], None] | None = None) -> None:
        self._plan = Plan() if saved is None else Plan.from_json(saved)
        self._save = save
        self._reports: dict[str, tuple[float, Report]] = {}
        # one that has taken the place of another hears of its replicas only by and by
        self._knows_all_at = 0.0 if saved is None else time.monotonic() + GRACE_S
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._busy = asyncio.Lock()

    @property
    def plan(self) -> Plan:
        """What is to be served now."""
        return self._plan

    async def begin(self, configured: tuple[Target, ...]) -> Plan:
        """The plan for a replica that starts; the first one's configuration is the first plan."""
        if not self._plan.number:
            self._set(serving=configured)
        return self._plan

    async def sync(self, replica: str, report: Report, wait_s: float) -> Plan:
        """Note how far a replica is; returns the plan, waiting for a newer one than it has."""
        self._reports[replica] = (time.monotonic(), report)
        self._changed.set()
        if self._plan.number <= report.seen:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
        return self._plan

    def forget(self, replica: str) -> None:
        """A replica that stops in good order is not waited for."""
        self._reports.pop(replica, None)

    def replicas(self) -> int:
        """How many are known to live."""
        return len(self._live())

    async def deploy(self, target: Target) -> Outcome:
        """Serve ``target`` in place of the version of its name; raises ``DeployError`` if refused.

        A shadow of that name ends: it has become the live one, or has been overtaken.
        """
        began = time.monotonic()
        async with self._alone():
            previous = self._previous(target)
            await self._stage(target)
            self._set(
                staged=None,
                serving=tuple(target if t.name == target.name else t for t in self._plan.serving),
                shadows=tuple(s for s in self._plan.shadows if s[0].name != target.name),
            )
            await self._carried_out()
            return self._outcome(target, previous, began)

    async def shadow(self, target: Target, share: float) -> Outcome:
        """Show ``target`` a share of the images of its name's model; raises ``DeployError``."""
        began = time.monotonic()
        async with self._alone():
            live = self._previous(target)
            await self._stage(target)
            others = tuple(s for s in self._plan.shadows if s[0].name != target.name)
            self._set(staged=None, shadows=(*others, (target, share)))
            await self._carried_out()
            return self._outcome(target, live, began)

    async def end_shadow(self, name: str) -> None:
        """Raises ``DeployError`` where there is none."""
        async with self._alone():
            rest = tuple(s for s in self._plan.shadows if s[0].name != name)
            if rest == self._plan.shadows:
                raise DeployError(f"model {name!r} has no shadow to be ended")
            self._set(shadows=rest)
            await self._carried_out()

    def _alone(self) -> asyncio.Lock:
        if self._busy.locked():
            raise BusyError("another deployment is under way: wait until it has ended")
        return self._busy

    def _previous(self, target: Target) -> Target:
        for served in self._plan.serving:
            if served.name == target.name:
                return served
        names = ", ".join(served.name for served in self._plan.serving)
        raise DeployError(
            f"no model {target.name!r} is served, so it cannot be replaced: expected a bundle of "
            f"{names}; start the service with several bundles to serve them beside each other"
        )

    def _outcome(self, target: Target, live: Target, began: float) -> Outcome:
        done = [report.number >= self._plan.number for report in self._live().values()]
        seconds = time.monotonic() - began
        return Outcome(
            name=target.name,
            version=target.version,
            previous=live.version,
            replicas=sum(done),
            behind=len(done) - sum(done),
            seconds=seconds,
        )

    async def _stage(self, target: Target) -> None:
        """Have every replica load it; raises ``DeployError`` where one of them cannot."""
        self._set(staged=target)
        try:
            number = self._plan.number  # what a replica has said of an earlier try does not count
            await self._until(
                lambda r: r.seen >= number and (target in r.loaded or target in r.refused)
            )
            refusals = [r.refused[target] for r in self._live().values() if target in r.refused]
            if refusals:
                raise DeployError(f"{target.name} {target.version} was refused: {refusals[0]}")
        except BaseException:  # whoever asked for it may have gone away, too
            self._set(staged=None)
            raise

    async def _carried_out(self) -> None:
        """Of a plan that stands: replicas that are late follow it, and are only counted."""
        number = self._plan.number
        with contextlib.suppress(DeployError):
            await self._until(lambda report: report.number >= number)

    async def _until(self, true: Callable[[Report], bool]) -> None:
        """Of every living replica, and of one at least: a new holder of the plan knows none yet."""
        deadline = time.monotonic() + STAGE_TIMEOUT_S
        while (
            time.monotonic() < self._knows_all_at
            or not (live := self._live())
            or not all(map(true, live.values()))
        ):
            if time.monotonic() > deadline:
                raise DeployError(f"not all replicas were done within {STAGE_TIMEOUT_S:.0f} s")
            self._changed.clear()
            try:
                async with asyncio.timeout(1):
                    await self._changed.wait()
            except TimeoutError:
                continue  # whoever has been lost meanwhile is not waited for

    def _live(self) -> dict[str, Report]:
        now = time.monotonic()
        self._reports = {
            name: entry for name, entry in self._reports.items() if now - entry[0] < LOST_AFTER_S
        }
        return {name: report for name, (_, report) in self._reports.items()}

    def _set(self, **changes: Any) -> None:
        self._plan = replace(self._plan, number=self._plan.number + 1, **changes)
        self._news.set()
        self._news = asyncio.Event()
        if self._save is not None:
            self._save(self._plan.to_json())
