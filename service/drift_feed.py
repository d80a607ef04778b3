"""How a replica shows the Monitor the scores of what it has answered: once a second, none twice.

The Monitor looks at a sample as well as at all: beyond ``watched.MOST_ROWS`` in a period, images
are counted as skipped. What did not arrive is sent again with its number; meanwhile no more than
one period's rows wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass
from typing import Protocol

from calibration.scored_rows import ScoredRows
from service.answer import ModelName
from service.drift_sight import Sight
from service.periodic import Periodic
from service.served import Models
from service.watched import Watched

logger = logging.getLogger("oodgate")

#: What has been replaced may still answer requests that it began with for so long.
RETIRED_S = 60.0


class Look(Protocol):
    """The Monitor's side."""

    async def observe(self, sight: Sight) -> bool:
        """Whether the model is known; where it is not nothing was taken in."""

    async def introduce(self, name: str, version: str, reference: ScoredRows, classes: int) -> None:
        """What the model's own images are ranked among."""


@dataclass
class _Shown:
    """One model: until when it may still answer, and what is on its way."""

    watched: Watched
    until: float
    number: int = 0
    pending: Sight | None = None


class DriftFeed:
    """Takes from each model what it has scored, and hands it over.

    A model is told of even while nobody asks it, so that it is known to be served; the Monitor is
    given its reference when it says that it has none. A model that was replaced is shown on until
    its last requests are through.
    """

    def __init__(
        self, models: Models, look: Look, *, period_s: float = 1.0, timeout_s: float = 5.0
    ) -> None:
        self._models = models
        self._look = look
        self._timeout_s = timeout_s
        self._source = uuid.uuid4().hex
        self._shown: dict[ModelName, _Shown] = {}
        self._periodic = Periodic(self.flush, period_s)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._periodic.start()

    async def stop(self) -> None:
        """Stop the clock and hand over what is left."""
        await self._periodic.stop()
        await self.flush()

    async def flush(self) -> None:
        """Hand over what there is, of all models at once."""
        now = time.monotonic()
        for model in self._models:
            if model.watched is not None:
                shown = self._shown.setdefault(model.name, _Shown(model.watched, now))
                shown.watched, shown.until = model.watched, now + RETIRED_S
        self._shown = {name: shown for name, shown in self._shown.items() if shown.until >= now}
        await asyncio.gather(*(self._show(name, one) for name, one in self._shown.items()))

    async def _show(self, name: ModelName, shown: _Shown) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._deliver(shown)
                shown.pending = self._next(name, shown)
                await self._deliver(shown)
        except Exception as error:  # whatever is wrong with the Monitor is no fault of a request
            logger.warning("scores were not shown to the Monitor, will try again: %r", error)

    def _next(self, name: ModelName, shown: _Shown) -> Sight:
        rows, skipped = shown.watched.take()
        shown.number += 1
        return Sight(
            source=self._source,
            number=shown.number,
            name=name.name,
            version=name.version,
            rows=rows,
            skipped=skipped,
        )

    async def _deliver(self, shown: _Shown) -> None:
        """What is pending, if anything is; raises where it did not arrive."""
        sight, watched = shown.pending, shown.watched
        if sight is None:
            return
        if not await self._look.observe(sight):
            reference, classes = watched.reference, watched.classes
            await self._look.introduce(sight.name, sight.version, reference, classes)
            if not await self._look.observe(sight):
                raise ConnectionError("the Monitor does not know what it was just told")
        shown.pending = None
