"""What a batch may go wrong by: bad images, passed deadlines, a model or thread that has ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from model.image import UInt8Array
from service import batcher as module
from service.batcher import Batched
from service.errors import DeadlineError
from service.verdict import Verdict
from tests.service.batching import Gate, batcher, run, scores, started
from tests.service.fakes import FakePredictor, images


def test_a_failing_image_fails_alone() -> None:
    draw = random.Random(0)
    for _ in range(20):
        bad = draw.sample(range(30), 3)
        requests = [[n, n + 1, n + 2][: draw.randint(1, 3)] for n in range(0, 30, 3)]

        async def test(
            executor: ThreadPoolExecutor,
            bad: list[int] = bad,
            requests: list[list[int]] = requests,
        ) -> None:
            batching = batcher(FakePredictor(bad), executor, size=5)
            calls = [batching.submit(images(*numbers), None) for numbers in requests]
            found = await asyncio.gather(*calls, return_exceptions=True)
            for numbers, outcome in zip(requests, found, strict=True):
                if set(bad) & set(numbers):
                    assert isinstance(outcome, ArithmeticError)
                else:
                    assert isinstance(outcome, Batched)
                    assert scores(outcome) == numbers
            assert batching.waiting == 0

        run(test)


def test_the_rest_of_a_request_with_a_bad_image_is_not_computed() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        predictor = FakePredictor([1])
        batching = batcher(predictor, executor, size=2)
        with pytest.raises(ArithmeticError):
            await batching.submit(images(*range(8)), None)
        assert scores(await batching.submit(images(9), None)) == [9]
        assert predictor.batches == [[0, 1], [9]]

    run(test)


def test_a_passed_deadline_is_told_and_never_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 100.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

    monkeypatch.setattr(module, "time", Clock)

    async def test(executor: ThreadPoolExecutor) -> None:
        gate = Gate()
        batching = batcher(gate, executor)
        first = await started(batching.submit(images(0), None, deadline=100.0))
        await gate.entered()
        late, in_time, patient = await started(
            batching.submit(images(1, 2), None, deadline=103.0),
            batching.submit(images(3), None, deadline=105.0),
            batching.submit(images(4), None),
        )
        Clock.now = 104.0
        gate.open()
        with pytest.raises(DeadlineError, match=r"after 4\.000 s"):
            await late
        found = await asyncio.gather(*first, in_time, patient)
        assert [scores(batched) for batched in found] == [[0], [3], [4]]
        assert gate.predictor.batches == [[0], [3, 4]]
        assert batching.waiting == 0

    run(test)


def test_a_deadline_in_the_past_never_reaches_the_model() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        predictor = FakePredictor()
        with pytest.raises(DeadlineError):
            await batcher(predictor, executor).submit(images(0), None, time.monotonic() - 1)
        assert not predictor.batches

    run(test)


def test_nobody_waits_for_a_thread_that_has_ended() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        ended = ThreadPoolExecutor(1)
        batching = batcher(FakePredictor(), ended, size=2)
        assert scores(await batching.submit(images(0), None)) == [0]
        ended.shutdown()
        calls = [batching.submit(images(*range(n)), None) for n in (1, 3, 5)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in found] == [RuntimeError] * 3
        assert batching.waiting == 0

    run(test)


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_model_that_loses_count_fails_and_answers_nobody(surplus: int) -> None:
    """Whose verdict is whose could not be told."""

    class Miscounting(FakePredictor):
        def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
            found = super().__call__(images, alphas)
            return found[:surplus] if surplus < 0 else found + found[:surplus]

    async def test(executor: ThreadPoolExecutor) -> None:
        batching = batcher(Miscounting(), executor)
        calls = [batching.submit(images(n), None) for n in range(3)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, ValueError)

    run(test)
