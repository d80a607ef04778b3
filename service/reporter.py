"""How a replica hands its counts to the Monitor: deltas once a second, none lost, none twice."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

from service.periodic import Periodic
from service.tally import Tally

logger = logging.getLogger("oodgate")


class Reporter:
    """Hands a replica's tally to the Monitor in numbered deltas, one on its way at a time.

    ``send`` is given (source, number, delta). A delta that could not be delivered is sent again
    with its number; meanwhile the tally adds up, in space bounded by the number of label values.
    What ``standing`` gives goes along each time: a Monitor that has restarted knows nothing of it.
    """

    def __init__(
        self,
        tally: Tally,
        send: Callable[[str, int, Tally], Awaitable[None]],
        *,
        standing: Callable[[], Tally],
        period_s: float = 1.0,
        timeout_s: float = 5.0,
    ) -> None:
        self._tally = tally
        self._send = send
        self._standing = standing
        self._timeout_s = timeout_s
        self._source = uuid.uuid4().hex
        self._number = 0
        self._pending: Tally | None = None
        self._lock = asyncio.Lock()
        self._periodic = Periodic(self._report, period_s)

    def start(self) -> None:
        """Begin to report, on the running loop."""
        self._periodic.start()

    async def stop(self) -> None:
        """Stop the clock, hand over what is left, and then an empty delta: it is the last."""
        await self._periodic.stop()
        if await self.flush():
            await self._hand_over(Tally())

    async def flush(self) -> bool:
        """Hand over what has been counted by now; false if the Monitor could not be reached."""
        async with self._lock:
            if self._pending is not None and not await self._hand_over(self._pending):
                return False
            return not self._tally or await self._hand_over(self._tally.take())

    async def _hand_over(self, delta: Tally) -> bool:
        """One delta, which stays pending, with its number, until it has arrived."""
        if self._pending is not delta:
            self._pending = delta
            self._number += 1
        if not await self._deliver(delta):
            return False
        self._pending = None
        return True

    async def _deliver(self, delta: Tally) -> bool:
        try:
            # not wait_for: in Python 3.11 it may swallow the cancellation by ``stop``
            async with asyncio.timeout(self._timeout_s):
                await self._send(self._source, self._number, delta)
        except Exception as error:  # whatever is wrong with the Monitor is no fault of a request
            logger.warning("metrics could not be handed over, will try again: %r", error)
            return False
        return True

    async def _report(self) -> None:
        self._tally.merge(self._standing())
        await self.flush()
