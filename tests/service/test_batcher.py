"""Adaptive batching: laws of any mix of requests, and how batches grow while the model is busy."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batcher import Batched
from service.errors import OverloadedError
from tests.service.batching import Gate, batcher, run, scores, started
from tests.service.fakes import FakePredictor, images, verdict_on


def test_what_waits_while_the_model_is_busy_goes_in_together() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        gate = Gate()
        batching = batcher(gate, executor)
        first = await started(batching.submit(images(0), None))
        await gate.entered()
        rest = await started(*(batching.submit(images(n), None) for n in range(1, 7)))
        assert batching.waiting == 6
        gate.open()
        found = await asyncio.gather(*first, *rest)
        assert [scores(batched) for batched in found] == [[n] for n in range(7)]
        assert gate.predictor.batches == [[0], [1, 2, 3, 4], [5, 6]]
        assert batching.waiting == 0

    run(test)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 11), min_size=1, max_size=12),
    size=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_image_gets_its_own_verdict(sizes: list[int], size: int, seed: int) -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        predictor, seen = FakePredictor(), list[int]()
        batching = batcher(predictor, executor, size=size, seen=seen)
        draw = random.Random(seed)
        begin, asked = 0, []
        for count in sizes:
            alpha = draw.choice([None, 0.1, 0.2])
            asked.append((range(begin, begin + count), alpha))
            begin += count

        async def ask(numbers: range, alpha: float | None) -> Batched:
            for _ in range(draw.randrange(4)):
                await asyncio.sleep(0)
            return await batching.submit(images(*numbers), alpha)

        found = await asyncio.gather(*(ask(*request) for request in asked))
        for (numbers, alpha), batched in zip(asked, found, strict=True):
            assert batched.verdicts == [verdict_on(n, alpha) for n in numbers]
            assert batched.queue_s >= 0
            assert batched.forward_s >= 0
        assert seen == [len(batch) for batch in predictor.batches]
        assert max(seen) <= size
        assert sorted(n for batch in predictor.batches for n in batch) == list(range(begin))
        assert batching.waiting == 0

    run(test)


def test_a_large_request_is_split_and_kept_in_order() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        predictor = FakePredictor()
        found = await batcher(predictor, executor).submit(images(*range(10)), None)
        assert scores(found) == list(range(10))
        assert predictor.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    run(test)


def test_too_much_waiting_is_refused_and_a_place_comes_back() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        gate = Gate()
        batching = batcher(gate, executor, size=2, waiting=5)
        first = await started(batching.submit(images(0), None))
        await gate.entered()
        rest = await started(batching.submit(images(1, 2, 3), None))
        with pytest.raises(OverloadedError):
            await batching.submit(images(4, 5, 6), None)
        rest += await started(batching.submit(images(7, 8), None))
        with pytest.raises(OverloadedError):
            await batching.submit(images(9), None)
        gate.open()
        await asyncio.gather(*first, *rest)
        assert scores(await batching.submit(images(10), None)) == [10]
        assert all(4 not in batch for batch in gate.predictor.batches)

    run(test)


def test_a_request_over_the_bound_is_admitted_alone() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        gate = Gate()
        batching = batcher(gate, executor, size=2, waiting=3)
        large = await started(batching.submit(images(*range(8)), None))
        await gate.entered()
        assert batching.waiting == 6
        with pytest.raises(OverloadedError):
            await batching.submit(images(9), None)
        gate.open()
        assert scores(await large[0]) == list(range(8))

    run(test)


def test_who_has_gone_costs_nothing_and_leaves_a_place() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        gate = Gate()
        batching = batcher(gate, executor, waiting=6)
        first = await started(batching.submit(images(0), None))
        await gate.entered()
        gone, stays = await started(
            batching.submit(images(1, 2, 3), None), batching.submit(images(4, 5, 6), None)
        )
        with pytest.raises(OverloadedError):
            await batching.submit(images(7), None)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batching.waiting == 3
        late = await started(batching.submit(images(7, 8, 9), None))
        gate.open()
        found = await asyncio.gather(*first, stays, *late)
        assert [scores(batched) for batched in found] == [[0], [4, 5, 6], [7, 8, 9]]
        assert gate.predictor.batches == [[0], [4, 5, 6, 7], [8, 9]]

    run(test)


def test_the_rest_of_a_request_whose_caller_goes_midway_is_dropped() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        gate = Gate()
        batching = batcher(gate, executor, size=2)
        (task,) = await started(batching.submit(images(*range(6)), None))
        await gate.entered()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert batching.waiting == 0
        other = await started(batching.submit(images(9), None))
        gate.open()
        assert scores(await other[0]) == [9]
        assert gate.predictor.batches == [[0, 1], [9]]

    run(test)


def test_an_idle_model_waits_for_company_only_where_told_to() -> None:
    for wait_s, expected in ((0.0, [[0], [1]]), (0.001, [[0, 1]])):

        async def test(
            executor: ThreadPoolExecutor,
            wait_s: float = wait_s,
            expected: list[list[int]] = expected,
        ) -> None:
            predictor = FakePredictor()
            batching = batcher(predictor, executor, wait_s=wait_s)
            (first,) = await started(batching.submit(images(0), None))
            await asyncio.sleep(0)  # without waiting, the worker has taken it by now
            second = await started(batching.submit(images(1), None))
            await asyncio.gather(first, *second)
            assert predictor.batches == expected

        run(test)


def test_a_full_batch_does_not_wait_for_company() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        batching = batcher(FakePredictor(), executor, size=2, wait_s=3600)
        assert scores(await batching.submit(images(0, 1), None)) == [0, 1]

    run(test)
