"""The core that both protocols share: one method infers, times and counts.

``Engine.answer`` admits a request, lets the face read it, decodes the image in a thread, has it
classified in a batch with others, and turns every failure into a ``Fault``. It knows no protocol
and no Ray: batching is handed in as a function.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from model.image import InputSpec, UInt8Array, decode
from service import monitor
from service.answer import ClassifyResponse, ModelName, answer
from service.errors import (
    CANCELLED,
    OK,
    BadParameterError,
    BodyTooLargeError,
    OverloadedError,
    SlowBodyError,
    fault_of,
)
from service.monitor import Tally
from service.predictor import Predictor
from service.verdict import Verdict

logger = logging.getLogger("oodgate")

#: Longest id that is echoed.
MAX_ID_LENGTH = 256
#: Classes that have a metric of their own; the rest are counted as ``other``.
MAX_CLASS_METRICS = 100


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a face has read: an encoded image and the parameters beside it."""

    image: bytes
    alpha: float | None = None
    id: str = ""
    top_k: int | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """One decoded image on its way into a batch."""

    pixels: UInt8Array
    alpha: float | None
    queued_at: float


#: What a batch gives for each of its items: one item's failure is its own.
Outcome = Verdict | Exception


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and one replica, may take."""

    max_body_bytes: int
    max_pixels: int
    max_waiting: int
    read_timeout_s: float


class Engine:
    """Classifies for every protocol. ``submit`` puts one item into a batch and awaits it."""

    def __init__(
        self,
        *,
        predictor: Predictor,
        model: ModelName,
        limits: Limits,
        submit: Callable[[Item], Awaitable[Outcome]],
    ) -> None:
        self.limits = limits
        self.tally = Tally()
        self._predictor = predictor
        self._spec: InputSpec = predictor.spec
        self._labels = tuple(predictor.class_labels)
        self._model = model
        self._submit = submit
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._decoders = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self.standing = self._standing()
        self.tally.merge(self.standing)

    async def answer(self, protocol: str, read: Callable[[], Awaitable[Ask]]) -> ClassifyResponse:
        """Read, classify and count one request; raises nothing but ``Fault``."""
        start, code = time.perf_counter(), CANCELLED.code
        try:
            with self._admitted():
                response = await self._classify(await self._read(read))
            code = OK
            return response
        except Exception as error:
            fault = fault_of(error)
            code = fault.status.code
            raise fault from error
        finally:
            self.tally.count(monitor.REQUESTS, protocol, code)
            self.tally.observe(monitor.REQUEST_SECONDS, time.perf_counter() - start, protocol)

    async def infer(self, items: Sequence[Item]) -> list[Outcome]:
        """Run one batch in a thread, so that the event loop goes on answering health checks."""
        start = time.perf_counter()
        for item in items:
            self._stage("queue", start - item.queued_at)
        self.tally.observe(monitor.BATCH_IMAGES, len(items))
        loop = asyncio.get_running_loop()
        self._idle.clear()
        try:
            return await loop.run_in_executor(self._forward, self._predict, items)
        finally:
            self._stage("forward", time.perf_counter() - start)
            self._idle.set()

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Pay every first-time cost before the first request; nothing is counted."""
        for size in batch_sizes:
            self._predictor(np.zeros((size, *self._spec.shape), np.uint8), [None] * size)

    async def _read(self, read: Callable[[], Awaitable[Ask]]) -> Ask:
        try:
            async with asyncio.timeout(self.limits.read_timeout_s):
                return await read()
        except TimeoutError:
            raise SlowBodyError(self.limits.read_timeout_s) from None

    async def _classify(self, ask: Ask) -> ClassifyResponse:
        if len(ask.image) > self.limits.max_body_bytes:
            raise BodyTooLargeError(self.limits.max_body_bytes)
        self._check(ask)
        pixels = await self._decode(ask.image)
        item = Item(pixels=pixels, alpha=ask.alpha, queued_at=time.perf_counter())
        # Serve closes a batch by the clock alone, even while the model is busy: all that come
        # meanwhile would queue up as batches of one. Let them in together when it is free.
        await self._idle.wait()
        outcome = await self._submit(item)
        if isinstance(outcome, Exception):
            raise outcome
        response = answer(outcome, self._labels, self._model, ask.id or uuid.uuid4().hex, ask.top_k)
        self._count(outcome)
        return response

    def _check(self, ask: Ask) -> None:
        if ask.alpha is not None:
            if not (math.isfinite(ask.alpha) and 0 < ask.alpha < 1):
                raise BadParameterError(f"alpha is {ask.alpha:g}: expected a number in (0, 1)")
            self._predictor.check_alpha(ask.alpha)
        if ask.top_k is not None and ask.top_k < 1:
            shown = str(ask.top_k)[:40]
            raise BadParameterError(f"top_k is {shown}: expected an integer of at least 1")
        if len(ask.id) > MAX_ID_LENGTH:
            raise BadParameterError(
                f"id has {len(ask.id)} characters: expected at most {MAX_ID_LENGTH}"
            )

    async def _decode(self, image: bytes) -> UInt8Array:
        start = time.perf_counter()
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(
            self._decoders, decode, image, self._spec, self.limits.max_pixels
        )
        self._stage("decode", time.perf_counter() - start)
        return pixels

    def _predict(self, items: Sequence[Item]) -> list[Outcome]:
        """All at once; if that fails each alone, so that only the guilty item fails."""
        images = np.stack([item.pixels for item in items])
        try:
            return list(self._predictor(images, [item.alpha for item in items]))
        except Exception as error:
            if len(items) == 1:
                return [error]
            logger.warning("a batch of %d failed, trying one by one: %r", len(items), error)
            return [outcome for item in items for outcome in self._predict([item])]

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._waiting >= self.limits.max_waiting:
            self.tally.count(monitor.SHED)
            raise OverloadedError
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def _stage(self, stage: str, seconds: float) -> None:
        self.tally.observe(monitor.STAGE_SECONDS, seconds, stage)

    def _count(self, verdict: Verdict) -> None:
        self.tally.count(monitor.DECISIONS, verdict.decision.value, verdict.reason or "none")
        self.tally.count(monitor.PREDICTIONS, self._class_metric(verdict.class_index))
        self.tally.observe(monitor.P_VALUE, verdict.p_value)
        self.tally.observe(monitor.CONFIDENCE, verdict.posterior[verdict.class_index])

    def _class_metric(self, index: int) -> str:
        return self._labels[index] if index < MAX_CLASS_METRICS else "other"

    def _standing(self) -> Tally:
        """What shows before any request: counters at zero, so ``rate()`` sees their first event."""
        tally = Tally()
        for labels in (("accept", "none"), ("abstain", "ambiguous"), ("reject", "atypical_input")):
            tally.count(monitor.DECISIONS, *labels, by=0)
        for index in range(min(len(self._labels), MAX_CLASS_METRICS + 1)):
            tally.count(monitor.PREDICTIONS, self._class_metric(index), by=0)
        tally.count(monitor.SHED, by=0)
        tally.count(monitor.MODEL_INFO, self._model.name, self._model.version)
        return tally
