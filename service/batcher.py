"""Adaptive batching for one model: whatever waits when the model is free goes in together.

There is no clock to tune. An idle model takes what there is at once, a busy one finds more waiting
each time it is free, so batches grow with the load. Callers that have just been answered often ask
again: a model that is free waits for as many images as were on hand when its last batch ended, for
a small part of that batch's time, and a caller who is alone never waits. What waits is
bounded in images, work whose caller has gone or whose deadline has passed is dropped before it
costs anything, and a failing image fails alone. Ray's ``serve.batch`` closes its batches by the
clock even while the model is busy, belongs to a deployment and not to a model, and computes what
nobody waits for any more, so it is not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from model.image import UInt8Array
from service.errors import DeadlineError, OverloadedError
from service.verdict import Verdict

logger = logging.getLogger("oodgate")

#: Images (n, C, H, W) and an alpha for each to as many verdicts; called in a thread.
Predict = Callable[[UInt8Array, Sequence[float | None]], list[Verdict]]


#: Is told the images and the seconds of each batch, the gate included.
OnBatch = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class Batched:
    """Verdicts in the order of the images; how long the first one waited, and the rest took."""

    verdicts: list[Verdict]
    queue_s: float
    forward_s: float


@dataclass(eq=False)
class _Job:
    """The images of one request, which may be spread over several batches."""

    images: UInt8Array
    alpha: float | None
    deadline: float | None
    queued_at: float
    future: asyncio.Future[Batched]
    taken_at: float = 0.0
    taken: int = 0
    verdicts: list[Verdict] = field(default_factory=list)

    def left(self) -> int:
        return len(self.images) - self.taken


@dataclass(frozen=True)
class _Piece:
    """Consecutive images of one job that go into one batch."""

    job: _Job
    images: UInt8Array


#: How long to wait for company, as a share of the seconds of the last batch.
PATIENCE = 0.15
#: So many times the last batch's seconds after it nobody is expected back any more.
MEMORY = 2.0


class Batcher:
    """Puts the images of many requests through one model, in the order of arrival.

    ``max_waiting`` bounds the images that wait (a single request may exceed it, alone);
    ``wait_s`` is how long an idle model waits for company to its first image.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        executor: Executor,
        max_batch_size: int,
        max_waiting: int,
        wait_s: float = 0.0,
        on_batch: OnBatch,
    ) -> None:
        self._predict = predict
        self._executor = executor
        self._max_batch_size = max_batch_size
        self._max_waiting = max_waiting
        self._wait_s = wait_s
        self._on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._worker: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._crowd, self._ended, self._took = 0, 0.0, 0.0

    @property
    def waiting(self) -> int:
        """Images that no batch has taken yet."""
        return self._waiting

    async def submit(
        self, images: UInt8Array, alpha: float | None, deadline: float | None = None
    ) -> Batched:
        """Verdicts of images (n, C, H, W) in their order.

        ``deadline`` is on the clock of ``time.monotonic``. Raises ``OverloadedError`` at once where
        too much waits already, ``DeadlineError`` when its time has come and gone, and what the
        model raises on these images.
        """
        if not len(images):
            raise ValueError("no image was submitted: expected at least one")
        if self._waiting and self._waiting + len(images) > self._max_waiting:
            raise OverloadedError
        loop = asyncio.get_running_loop()
        job = _Job(images, alpha, deadline, time.monotonic(), loop.create_future())
        self._jobs.append(job)
        self._waiting += len(images)
        self._arrived.set()
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            return await job.future
        finally:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        """Give back the places of what was not taken: its caller has gone, or it failed."""
        self._waiting -= job.left()
        job.taken = len(job.images)

    async def _work(self) -> None:
        """Runs while there is something to do, so that a retired model leaves no task behind."""
        try:
            await self._company(self._max_batch_size, self._wait_s)
            while self._jobs:
                await self._company(self._crowd, self._patience())
                if batch := self._take():
                    await self._run(batch)
        finally:
            self._worker = None

    def _patience(self) -> float:
        """Seconds that are worth waiting for callers who may come back; 0 when all was long ago."""
        recent = time.monotonic() - self._ended < MEMORY * self._took
        return PATIENCE * self._took if recent else 0.0

    async def _company(self, images: int, seconds: float) -> None:
        """Wait for so many to be waiting, but no longer than ``seconds``."""
        wanted = min(images, self._max_batch_size)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while seconds and 0 < self._waiting < wanted:
                    self._arrived.clear()
                    await self._arrived.wait()

    def _take(self) -> list[_Piece]:
        """As many waiting images as a batch holds."""
        batch: list[_Piece] = []
        room = self._max_batch_size
        now = time.monotonic()
        while self._jobs and room:
            job = self._jobs[0]
            if job.deadline is not None and now > job.deadline:
                _fail(job, DeadlineError(now - job.queued_at))
                self._forget(job)
            if job.taken == 0 and job.left():
                job.taken_at = now
            if count := min(room, job.left()):
                batch.append(_Piece(job, job.images[job.taken : job.taken + count]))
                job.taken += count
                self._waiting -= count
                room -= count
            if not job.left():
                self._jobs.popleft()
        return batch

    async def _run(self, batch: list[_Piece]) -> None:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            outcomes = await loop.run_in_executor(self._executor, self._outcomes, batch)
        except RuntimeError as error:  # the executor has been shut down: nobody may wait for ever
            outcomes = [error] * len(batch)
        images = sum(len(piece.images) for piece in batch)
        self._crowd = images + self._waiting
        self._ended = time.monotonic()
        self._took = self._ended - began
        self._on_batch(images, self._took)
        for piece, outcome in zip(batch, outcomes, strict=True):
            self._hand_over(piece.job, outcome)

    def _hand_over(self, job: _Job, outcome: list[Verdict] | Exception) -> None:
        if isinstance(outcome, Exception):
            _fail(job, outcome)
            self._forget(job)
            return
        job.verdicts += outcome
        if len(job.verdicts) == len(job.images) and not job.future.done():
            job.future.set_result(
                Batched(
                    verdicts=job.verdicts,
                    queue_s=job.taken_at - job.queued_at,
                    forward_s=time.monotonic() - job.taken_at,
                )
            )

    def _outcomes(self, batch: Sequence[_Piece]) -> list[list[Verdict] | Exception]:
        """All at once; if that fails each piece alone, so that only the guilty one fails."""
        try:
            images = np.concatenate([piece.images for piece in batch])
            alphas = [piece.job.alpha for piece in batch for _ in range(len(piece.images))]
            verdicts = self._predict(images, alphas)
            if len(verdicts) != len(images):
                raise ValueError(f"{len(verdicts)} verdicts on {len(images)} images")
            rest = iter(verdicts)
            return [list(islice(rest, len(piece.images))) for piece in batch]
        except Exception as error:
            if len(batch) == 1:
                return [error]
            logger.warning("a batch of %d failed, trying one by one: %r", len(batch), error)
            return [outcome for piece in batch for outcome in self._outcomes([piece])]


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
