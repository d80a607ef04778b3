"""The core that all faces share: one method admits, decodes, classifies, counts and logs.

``Engine.answer`` admits a request, lets the face read it, chooses the model, decodes the images in
a thread, has them classified in batches with others, and turns every failure into a ``Fault``. It
knows no protocol and no Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from model.image import ImageTooLargeError, UInt8Array, checked_pixels, decode_all
from service.ask import MAX_CONTRAST, MAX_HEATMAPS, MIN_CONTRAST, Ask, Reply, Sample, Wish
from service.errors import (
    OK,
    BadParameterError,
    BadRequestError,
    BodyTooLargeError,
    DeadlineError,
    Fault,
    OverloadedError,
    SlowBodyError,
    TooManyExplanationsError,
    TooManyImagesError,
    fault_of,
)
from service.recorder import Recorder
from service.shadow import Shadows
from service.trace import Trace

if TYPE_CHECKING:  # torch comes with it, and proxies need not load that
    from service.drawing import Drawn
    from service.served import Models, ServedModel

Answer = TypeVar("Answer")

#: Requests whose bodies may be arriving, for each that may be classified: a slow upload costs
#: memory and no work, so it must not keep out those that are complete.
READERS = 8

#: Images of so few bytes and pixels together take less time than handing them to another thread.
SMALL_BYTES, SMALL_PIXELS = 64 * 1024, 64 * 1024

#: Longest id that is echoed.
MAX_ID_LENGTH = 256

#: Requests for explanations on hand at once, and images that one may have: each costs several
#: forward passes and a large answer.
EXPLAINING, MAX_EXPLAINED = 8, 16
#: Numbers of heatmaps in one answer, of all images, classes and places.
MAX_HEATMAP_VALUES = 250_000
#: Requests for drawings on hand at once; each may be of many images.
DRAWING = 2


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and one replica, may take; ``max_pixels`` are those of all its images."""

    max_body_bytes: int
    max_pixels: int
    max_images: int
    max_waiting: int
    read_timeout_s: float
    queue_timeout_s: float


class Engine:
    """Classifies for every protocol."""

    def __init__(self, *, models: Models, limits: Limits, recorder: Recorder) -> None:
        self.limits = limits
        self.models = models
        self._recorder = recorder
        self._shadows = Shadows(models, recorder.tally)
        self._reading = Places(READERS * limits.max_waiting)
        self._classifying = Places(limits.max_waiting)
        self._explaining = Places(EXPLAINING, TooManyExplanationsError)
        self._drawing = Places(DRAWING, TooManyExplanationsError)
        self._decoders = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="render")

    async def answer(
        self,
        protocol: str,
        read: Callable[[], Awaitable[Ask]],
        render: Callable[[Ask, Reply], Answer],
        request_id: str = "",
    ) -> Answer:
        """Read, classify, render and count one request; raises nothing but ``Fault``.

        ``request_id`` is the caller's where it comes before the request itself, as headers do.
        """
        trace = Trace(protocol=protocol, id=request_id or uuid.uuid4().hex)
        ask: Ask | None = None
        try:
            with self._reading.place():
                ask = await self._read(read)
            with self._classifying.place():
                reply = await self._reply(ask, trace)
                with trace.stage("render"):
                    answer = await self._rendered(ask, reply, render)
            trace.code = OK
            return answer
        except Exception as error:
            fault = fault_of(error)
            trace.code = fault.status.code
            raise fault from error
        finally:
            self._recorder.record(trace, ask)

    async def _rendered(
        self, ask: Ask, reply: Reply, render: Callable[[Ask, Reply], Answer]
    ) -> Answer:
        """Explanations are large: pictures and numbers take longer than others may wait."""
        if ask.explain is None:
            return render(ask, reply)
        return await asyncio.get_running_loop().run_in_executor(self._renderer, render, ask, reply)

    def refuse(self, protocol: str, error: Exception, request_id: str) -> Fault:
        """Count and log a request that is turned away at the door; what to answer it with."""
        fault = fault_of(error)
        trace = Trace(protocol=protocol, id=request_id or uuid.uuid4().hex, code=fault.status.code)
        self._recorder.record(trace, None)
        return fault

    async def _read(self, read: Callable[[], Awaitable[Ask]]) -> Ask:
        try:
            async with asyncio.timeout(self.limits.read_timeout_s):
                return await read()
        except TimeoutError:
            raise SlowBodyError(self.limits.read_timeout_s) from None

    async def _reply(self, ask: Ask, trace: Trace) -> Reply:
        began = time.monotonic()
        if len(ask.id) > MAX_ID_LENGTH:
            raise BadParameterError(
                f"id has {len(ask.id)} characters: expected at most {MAX_ID_LENGTH}"
            )
        trace.id = ask.id or trace.id
        model = self.models.find(ask.model, ask.version)
        trace.model = model.name
        self._check(ask, model)
        deadline = self._deadline(ask, began)
        if ask.explain is not None:
            return await self._explain(ask, ask.explain, model, trace, deadline)
        images = await self._images(ask, model, trace, deadline)
        batched = await model.classify(images, ask.alpha, deadline)
        trace.stages |= {"queue": batched.queue_s, "forward": batched.forward_s}
        trace.verdicts = batched.verdicts
        self._shadows.follow(model, images, ask.alpha, batched.verdicts)
        return Reply(id=trace.id, model=model.name, labels=model.labels, verdicts=batched.verdicts)

    async def _explain(
        self, ask: Ask, wish: Wish, model: ServedModel, trace: Trace, deadline: float
    ) -> Reply:
        """Beside the batches; its verdicts are no decisions to be counted: who asks why has
        mostly been told what, or tries things out."""
        trace.counted = False
        _check_size(wish, len(ask.images), model)
        with self._explaining.place():
            images = await self._images(ask, model, trace, deadline)
            with trace.stage("forward"):
                found = await model.explain(images, ask.alpha, wish.contrast, deadline)
        trace.verdicts = [one.verdict for one in found]
        return Reply(
            id=trace.id,
            model=model.name,
            labels=model.labels,
            verdicts=trace.verdicts,
            explanations=found,
        )

    async def draw(
        self, read: Callable[[], Sample], request_id: str
    ) -> tuple[ServedModel, Sequence[Drawn]]:
        """Images that a model draws itself; raises nothing but ``Fault``."""
        began = time.monotonic()
        trace = Trace(protocol="http", id=request_id or uuid.uuid4().hex, counted=False)
        try:
            wanted = read()
            model = self.models.find(wanted.model)
            with self._drawing.place():
                deadline = began + self.limits.queue_timeout_s
                found = await model.draw(wanted.count, wanted.seed, deadline)
            trace.code = OK
            return model, found
        except Exception as error:
            fault = fault_of(error)
            trace.code = fault.status.code
            raise fault from error
        finally:
            self._recorder.record(trace, None)

    def _deadline(self, ask: Ask, began: float) -> float:
        """When the answer is too late: as the caller says, and never later than the service's."""
        allowed = self.limits.queue_timeout_s
        return began + (allowed if ask.timeout_s is None else min(allowed, ask.timeout_s))

    def _check(self, ask: Ask, model: ServedModel) -> None:
        """Whatever can be refused before an image is decoded."""
        if len(ask.images) == 0:
            raise BadRequestError("the request has no image: expected at least one")
        if len(ask.images) > self.limits.max_images:
            raise TooManyImagesError(len(ask.images), self.limits.max_images)
        if _bytes_of(ask.images) > self.limits.max_body_bytes:
            raise BodyTooLargeError(self.limits.max_body_bytes)
        if ask.alpha is not None:
            if not (math.isfinite(ask.alpha) and 0 < ask.alpha < 1):
                raise BadParameterError(f"alpha is {ask.alpha:g}: expected a number in (0, 1)")
            model.check_alpha(ask.alpha)
        if ask.top_k is not None and ask.top_k < 1:
            shown = str(ask.top_k)[:40]
            raise BadParameterError(f"top_k is {shown}: expected an integer of at least 1")
        if ask.timeout_s is not None and not ask.timeout_s > 0:
            raise BadParameterError(f"timeout is {ask.timeout_s:g} s: expected more than 0")
        if ask.explain is not None:
            _check_wish(ask.explain, len(ask.images))

    async def _images(
        self, ask: Ask, model: ServedModel, trace: Trace, deadline: float
    ) -> UInt8Array:
        with trace.stage("decode"):
            if isinstance(ask.images, np.ndarray):
                return checked_pixels(ask.images, model.spec)
            if _bytes_of(ask.images) <= SMALL_BYTES:
                with contextlib.suppress(ImageTooLargeError):
                    pixels = min(SMALL_PIXELS, self.limits.max_pixels)
                    return decode_all(ask.images, model.spec, pixels)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._decoders, self._decoded, ask.images, model, deadline, time.monotonic()
            )

    def _decoded(
        self, images: Sequence[bytes], model: ServedModel, deadline: float, queued_at: float
    ) -> UInt8Array:
        """In a decoder's thread, whose turn may have come too late."""
        if (now := time.monotonic()) > deadline:
            raise DeadlineError(now - queued_at)
        return decode_all(images, model.spec, self.limits.max_pixels)


def _check_size(wish: Wish, images: int, model: ServedModel) -> None:
    """Of the answer, before it is computed."""
    height, width = model.places
    classes = min(wish.heatmaps or len(model.labels), len(model.labels))
    values = images * classes * height * width
    if values > MAX_HEATMAP_VALUES:
        raise BadParameterError(
            f"{images} images, {classes} classes and {height} x {width} places make {values:,} "
            f"numbers: expected at most {MAX_HEATMAP_VALUES:,}; ask for fewer"
        )


def _check_wish(wish: Wish, images: int) -> None:
    if images > MAX_EXPLAINED:
        raise TooManyImagesError(images, MAX_EXPLAINED)
    if not (math.isfinite(wish.contrast) and MIN_CONTRAST <= wish.contrast <= MAX_CONTRAST):
        raise BadParameterError(
            f"contrast is {wish.contrast:g}: expected a number from {MIN_CONTRAST:g} to "
            f"{MAX_CONTRAST:g}"
        )
    for name, found, least in (("heatmaps", wish.heatmaps, 1), ("png", wish.png, 0)):
        if found is not None and not least <= found <= MAX_HEATMAPS:
            shown = str(found)[:40]
            raise BadParameterError(
                f"{name} is {shown}: expected an integer from {least} to {MAX_HEATMAPS}"
            )


class Places:
    """So many at once; the next one is refused by ``error``."""

    def __init__(self, count: int, error: type[OverloadedError] = OverloadedError) -> None:
        self._count = count
        self._error = error
        self._taken = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Raises the error where none is free."""
        if self._taken >= self._count:
            raise self._error
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def _bytes_of(images: Sequence[bytes] | Any) -> int:
    if isinstance(images, np.ndarray):
        return images.nbytes
    return sum(map(len, images))
