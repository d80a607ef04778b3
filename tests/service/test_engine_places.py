"""What an engine does under load: places, queues and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from model.image import UInt8Array
from service import engine as module
from service import metrics
from service.ask import Ask, Reply
from service.engine import READERS
from service.errors import Fault
from service.verdict import Verdict
from tests.service.asking import LIMITS, asked, engine, refused
from tests.service.batching import Gate
from tests.service.fakes import FakePredictor, images, model, png, runtime


def test_places_are_bounded_and_every_end_gives_one_back() -> None:
    at, notes = engine()

    async def run() -> None:
        gate = asyncio.Event()

        async def slow() -> Ask:
            await gate.wait()
            return Ask(images=[png()])

        def render(ask: Ask, reply: Reply) -> Reply:
            return reply

        places = READERS * LIMITS.max_waiting
        waiting = [asyncio.create_task(at.answer("http", slow, render)) for _ in range(places - 1)]
        await asyncio.sleep(0)
        await asked(at, Ask(images=[png()]))  # what is complete passes by slow uploads
        waiting.append(asyncio.create_task(at.answer("http", slow, render)))
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(Fault) as fault:
                await asked(at, Ask(images=[png()]))
            assert fault.value.status.code == "overloaded"
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        await asked(at, Ask(images=[png()]))
        for task in waiting[3:]:
            task.cancel()
        gate.set()
        await asyncio.gather(*waiting[1:3])

    asyncio.run(run())
    values = notes.tally.values
    assert values[metrics.SHED.name, ()] == 3
    outcomes = {k[1][1]: n for k, n in values.items() if k[0] == metrics.REQUESTS.name}
    cancelled = READERS * LIMITS.max_waiting - 2
    assert outcomes == {"overloaded": 3, "cancelled": cancelled, "ok": 4}


def test_a_full_queue_of_images_is_shed_as_well() -> None:
    gate = Gate()

    class Gated(FakePredictor):
        def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
            return gate(images, alphas)

    at, notes = engine(
        model(predictor=Gated(), running=runtime(max_batch_size=1, max_waiting=2)),
        limits=replace(LIMITS, max_waiting=10),
    )

    async def run() -> None:
        first = asyncio.create_task(asked(at, Ask(images=images(1, 2, 3))))
        await gate.entered()
        assert at.models.waiting() == 2
        with pytest.raises(Fault) as fault:
            await asked(at, Ask(images=images(4)))
        assert fault.value.status.code == "overloaded"
        gate.open()
        await first
        assert at.models.waiting() == 0

    asyncio.run(run())
    assert notes.tally.values[metrics.SHED.name, ()] == 1


def test_the_deadline_is_the_nearer_of_the_caller_s_and_the_service_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Clock:
        monotonic = staticmethod(lambda: 100.0)
        perf_counter = staticmethod(lambda: 0.0)

    found: list[float | None] = []
    served = model()
    classify = served.classify

    async def noting(images: UInt8Array, alpha: float | None, deadline: float | None) -> Any:
        found.append(deadline)
        return await classify(images, alpha)

    monkeypatch.setattr(served, "classify", noting)
    monkeypatch.setattr(module, "time", Clock)
    at, _ = engine(served)
    for timeout_s in (None, 5.0, 600.0, float("inf")):
        asyncio.run(asked(at, Ask(images=[png()], timeout_s=timeout_s)))
    assert found == [160.0, 105.0, 160.0, 160.0]


def test_a_request_that_was_decoded_too_late_is_not_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            cls.now += 10
            return cls.now

        perf_counter = staticmethod(lambda: 0.0)

    monkeypatch.setattr(module, "time", Clock)
    predictor = FakePredictor()
    at, _ = engine(model(predictor=predictor))
    fault = refused(Ask(images=[png()], timeout_s=5), at)
    assert fault.status.code == "deadline_exceeded"
    assert not predictor.batches
