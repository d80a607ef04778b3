"""How a replica shows the Monitor the scores of what it has answered: once a second, at most once.

Unlike counts, scores may be lost on the way: a test of drift looks at a sample as well as at all,
as long as what is lost says nothing of the scores. How many were not looked at is counted.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from calibration.scored_rows import ScoredRows
from service.periodic import Periodic
from service.served import Models, ServedModel

logger = logging.getLogger("oodgate")


class Look(Protocol):
    """The Monitor's side."""

    async def observe(self, name: str, version: str, rows: ScoredRows, skipped: int) -> bool:
        """Whether the model is known; where it is not nothing was taken in."""

    async def introduce(self, name: str, version: str, reference: ScoredRows, classes: int) -> None:
        """What the model's own images are ranked among."""


class DriftFeed:
    """Takes from each model what it has scored, and hands it over.

    A model is told of even while nobody asks it, so that it is known to be served; the Monitor is
    given its reference when it says that it has none.
    """

    def __init__(
        self, models: Models, look: Look, *, period_s: float = 1.0, timeout_s: float = 5.0
    ) -> None:
        self._models = models
        self._look = look
        self._timeout_s = timeout_s
        self._periodic = Periodic(self.flush, period_s)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._periodic.start()

    async def stop(self) -> None:
        """Stop the clock and hand over what is left."""
        await self._periodic.stop()
        await self.flush()

    async def flush(self) -> None:
        """Hand over what there is."""
        for model in self._models:
            await self._show(model)

    async def _show(self, model: ServedModel) -> None:
        watched, name = model.watched, model.name
        if watched is None:
            return
        rows, skipped = watched.take()
        try:
            async with asyncio.timeout(self._timeout_s):
                if not await self._look.observe(name.name, name.version, rows, skipped):
                    await self._look.introduce(
                        name.name, name.version, watched.reference, watched.classes
                    )
                    await self._look.observe(name.name, name.version, rows, skipped)
        except BaseException as error:
            watched.skip(skipped + len(rows))
            if not isinstance(error, Exception):
                raise  # the replica stops
            logger.warning("scores could not be shown to the Monitor: %r", error)
