"""Where the counts of all replicas come together.

A replica counts into its own ``Tally`` and a ``Reporter`` hands the difference once a second to the
one ``Monitor``, whose totals are exact for the whole cluster: deltas are numbered, so one that is
sent twice counts once. A replica that stops gracefully hands over what is left; one that is killed
takes at most its last second with it. A ``DriftFeed`` shows it the scores as well. Ray's and
HAProxy's own metrics are not here.

What survives a restart of the Monitor: nothing that it counted. Totals begin at zero, which
``rate()`` and ``increase()`` allow for; the tests of drift begin anew from the calibration rows
with an empty window, so a drift that was on its way to an alarm needs its whole delay once more.
Back within a second or two, since replicas say them each time: what is served, thresholds, levels,
and the references that drift is measured from. What replicas count while it is away they hand over
when it is back; scores of that time are counted as skipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from calibration.drift import AlarmBudget
from calibration.scored_rows import ScoredRows
from service.drift_sight import Sight
from service.drift_watch import DriftWatches
from service.exposition import exposition
from service.metrics import (
    BY_NAME,
    DRIFT_GAUGES,
    LAST_INFERENCE,
    MODEL_INFO,
    STATISTICS,
    Spec,
)
from service.tally import Key, Tally

#: A replica that has said nothing for so long has gone; it reports each second.
FRESH_S = 10.0
#: Nobody sends again what did not arrive so long ago.
REMEMBERED_S = 24 * 60 * 60.0


@dataclass(frozen=True)
class _Levels:
    """Gauges of one replica, and when it said them, on the clock of ``time.monotonic``."""

    values: Mapping[Key, float]
    at: float


class Monitor:
    """The one place where the totals of all replicas live."""

    def __init__(self, budget: AlarmBudget | None = None) -> None:
        """``budget`` of the drift alarms of each model."""
        self._totals = Tally()
        self._watches = DriftWatches(budget)
        self._last: dict[str, tuple[int, float]] = {}
        self._levels: dict[str, _Levels] = {}

    async def record(self, source: str, number: int, delta: Tally) -> None:
        """Add a replica's delta once, however often it arrives; an empty one is its last."""
        now = time.monotonic()
        last, _ = self._last.get(source, (0, now))
        self._last[source] = (max(last, number), now)
        if number <= last:
            return
        self._totals.merge(delta)
        levels = {key: v for key, v in delta.values.items() if BY_NAME[key[0]].each_replica}
        if levels:
            self._levels[source] = _Levels(levels, now)
        elif not delta:
            self._levels.pop(source, None)

    async def observe(self, sight: Sight) -> bool:
        """Look for drift in scores, once however often they arrive; false for an unknown model."""
        counted = self._watches.observe(sight)
        if counted is None:
            return False
        self._totals.merge(counted)
        return True

    async def introduce(self, name: str, version: str, reference: ScoredRows, classes: int) -> None:
        """What a model's images are ranked among; from now on it can be observed."""
        self._watches.introduce((name, version), reference, classes)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The text format that ``accept`` (the header) asks for, and its Content-Type."""
        self._sum_levels()
        self._forget(*DRIFT_GAUGES)
        self._totals.merge(self._watches.told())
        return exposition(self._totals, accept)

    def _sum_levels(self) -> None:
        """What all replicas hold now; one that is no longer heard of holds nothing."""
        now = time.monotonic()
        oldest = now - FRESH_S
        self._last = {s: last for s, last in self._last.items() if now - last[1] < REMEMBERED_S}
        self._levels = {s: levels for s, levels in self._levels.items() if levels.at > oldest}
        self._forget(*(spec for spec in BY_NAME.values() if spec.each_replica))
        for levels in self._levels.values():
            for key, value in levels.values.items():
                self._totals.values[key] = self._totals.values.get(key, 0) + value

    def _forget(self, *specs: Spec) -> None:
        names = {spec.name for spec in specs}
        for key in [key for key in self._totals.values if key[0] in names]:
            del self._totals.values[key]

    def served(self, models: Iterable[tuple[str, str]]) -> None:
        """Name and version of what is served now; what was before has gone."""
        self._forget(MODEL_INFO)
        for name, version in models:
            self._totals.count(MODEL_INFO, name, version)

    async def count(self, spec: Spec, *labels: str) -> None:
        """Add one to a counter of what the Monitor itself has seen."""
        self._totals.count(spec, *labels)

    async def statistics(self) -> dict[tuple[str, ...], int]:
        """What ``count_statistics`` has counted, by model, version and entry."""
        last = {
            (*key, "last_ms"): value for key, value in (await self.values(LAST_INFERENCE)).items()
        }
        return await self.values(STATISTICS) | last

    async def values(self, spec: Spec) -> dict[tuple[str, ...], int]:
        """A counter's values by its labels."""
        return {k[1]: int(v) for k, v in self._totals.values.items() if k[0] == spec.name}
