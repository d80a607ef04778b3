"""A new bundle sees traffic before it may answer: its decisions are counted beside the live ones.

Shadow work is never waited for and never piles up: while the shadow is still busy with earlier
images, further ones pass it by. All models share a thread of forward passes, so under full load a
shadow of share 1 takes up to half of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from model.image import UInt8Array, checked_pixels
from service import metrics
from service.errors import fault_of
from service.tally import Tally
from service.verdict import Verdict

if TYPE_CHECKING:
    from service.served import Models, ServedModel, Shadow

#: Requests whose images a shadow may have on hand at once.
MAX_PENDING = 4


class Shadows:
    """Shows each model's images to its shadow, if it has one, and counts what that decides."""

    def __init__(self, models: Models, tally: Tally) -> None:
        self._models = models
        self._tally = tally
        self._due: dict[str, float] = {}
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}

    def follow(
        self, model: ServedModel, images: UInt8Array, alpha: float | None, live: Sequence[Verdict]
    ) -> None:
        """Take a share of the requests, evenly spread, as far as the shadow keeps up."""
        name = model.name.name
        shadow = self._models.shadows.get(name)
        if shadow is None:
            return
        due = self._due.get(name, 1 - shadow.share) + shadow.share
        self._due[name] = due % 1
        tasks = self._tasks.setdefault(name, set())
        if due >= 1 and len(tasks) < MAX_PENDING:
            task = asyncio.get_running_loop().create_task(
                self._compare(shadow, images, alpha, live)
            )
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _compare(
        self, shadow: Shadow, images: UInt8Array, alpha: float | None, live: Sequence[Verdict]
    ) -> None:
        name = shadow.model.name
        try:
            shadow.model.check_alpha(alpha)
            fitting = checked_pixels(images, shadow.model.spec)
            batched = await shadow.model.classify(fitting, alpha)
            for ours, theirs in zip(live, batched.verdicts, strict=True):
                same = "true" if ours.class_label == theirs.class_label else "false"
                decisions = (ours.decision.value, theirs.decision.value)
                self._tally.count(metrics.SHADOW, name.name, name.version, *decisions, same)
        except Exception as error:
            code = fault_of(error).status.code
            failed = ("any", code, "false")
            self._tally.count(metrics.SHADOW, name.name, name.version, *failed, by=len(live))
