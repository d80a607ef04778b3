"""What the engine admits, and that it stays awake: seen from a face."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from model.image import UInt8Array
from service import metrics
from service.ask import Ask, Reply
from service.engine import READERS
from service.errors import Fault
from service.predictor import Predictor
from service.served import self_test
from service.verdict import Verdict
from tests.service.faces.asking import client, refused
from tests.service.faces.fakes import BROKEN, LIMITS, FakePredictor, bench, png


def nothing(ask: Ask, reply: Reply) -> Reply:
    return reply


def test_one_bad_image_does_not_fail_its_batch() -> None:
    predictor = FakePredictor()
    model = bench(predictor=predictor).engine.models.default

    async def run() -> list[object]:
        images = (np.full((1, 1, 4, 4), value, np.uint8) for value in (1, BROKEN, 3))
        asked = [model.classify(image, None) for image in images]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, second, third = asyncio.run(run())
    assert max(predictor.batches) > 1
    assert isinstance(second, ArithmeticError)
    for outcome, index in ((first, 1), (third, 3)):
        assert [v.class_index for v in outcome.verdicts] == [index]  # type: ignore[attr-defined]


def test_more_than_the_admitted_requests_are_shed() -> None:
    at = bench()

    async def run() -> str:
        gate = asyncio.Event()

        async def read() -> Ask:
            await gate.wait()
            return Ask(images=(png(),))

        waiting = [
            asyncio.create_task(at.engine.answer("http", read, nothing)) for _ in range(4 * READERS)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Fault) as refusal:
            await at.engine.answer("http", read, nothing)
        gate.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        return refusal.value.status.code

    assert asyncio.run(run()) == "overloaded"
    assert at.tally.values[metrics.SHED.name, ()] == at.counted("http", "overloaded")
    assert at.counted("http", "ok") + at.counted("http", "overloaded") == 4 * READERS + 1


def test_what_is_shed_over_http_says_when_to_come_again() -> None:
    async def run() -> None:
        at = bench(replace(LIMITS, max_waiting=0))
        async with client(at.app()) as asking:
            for path in ("/v1/classify", "/v2/models/fake/infer"):
                response = await asking.post(path, content=png())
                assert refused(response) == (429, "overloaded")
                assert response.headers["retry-after"] == "1"

    asyncio.run(run())


def test_a_stalled_upload_gives_its_place_back() -> None:
    at = bench(replace(LIMITS, read_timeout_s=0.01, max_waiting=1))

    async def never() -> Ask:
        await asyncio.Event().wait()
        raise AssertionError

    async def at_once() -> Ask:
        return Ask(images=(png(),))

    async def run() -> None:
        with pytest.raises(Fault) as refusal:
            await at.engine.answer("http", never, nothing)
        assert refusal.value.status.code == "slow_body"
        await at.engine.answer("http", at_once, nothing)

    asyncio.run(run())


def test_the_event_loop_is_free_while_the_model_runs() -> None:
    began, release = threading.Event(), threading.Event()

    class Slow(FakePredictor):
        def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
            began.set()
            release.wait(60)
            return super().__call__(images, alphas)

    async def run() -> Reply:
        async def read() -> Ask:
            return Ask(images=(png(5),))

        engine = bench(predictor=Slow()).engine
        task = asyncio.create_task(engine.answer("http", read, nothing))
        await asyncio.to_thread(began.wait, 60)
        assert not task.done()
        release.set()
        return await task

    assert asyncio.run(run()).verdicts[0].decision == "accept"


def test_warm_up_is_not_counted() -> None:
    predictor = FakePredictor()
    at = bench(predictor=predictor)
    self_test(cast(Predictor, predictor), 8)
    assert predictor.batches
    assert not at.tally.values
    assert not at.tally.distributions
