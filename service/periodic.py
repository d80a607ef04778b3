"""Something that a replica does again and again on its event loop, until it stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Periodic:
    """Awaits ``do``, then waits ``period_s``, and so on. ``do`` raises nothing."""

    def __init__(self, do: Callable[[], Awaitable[object]], period_s: float) -> None:
        self._do = do
        self._period_s = period_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """No more; what is being done is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await self._do()
            await asyncio.sleep(self._period_s)
