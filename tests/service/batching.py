"""A batcher on a loop and a thread of its own, and a model that stands still until it is let go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from model.image import UInt8Array
from service.batcher import Batched, Batcher, Predict
from service.verdict import Verdict
from tests.service.fakes import FakePredictor

WAIT_S = 60


class Gate:
    """A predictor that stands still in its thread until it is let go."""

    def __init__(self, predictor: FakePredictor | None = None) -> None:
        self.predictor = predictor or FakePredictor()
        self._entered = threading.Semaphore(0)
        self._free = threading.Event()

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        self._entered.release()
        assert self._free.wait(WAIT_S)
        return self.predictor(images, alphas)

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.acquire, True, WAIT_S)

    def open(self) -> None:
        self._free.set()


def batcher(
    predict: Predict,
    executor: ThreadPoolExecutor,
    *,
    size: int = 4,
    waiting: int = 1000,
    wait_s: float = 0.0,
    seen: list[int] | None = None,
) -> Batcher:
    def note(count: int, seconds: float) -> None:
        if seen is not None:
            seen.append(count)

    return Batcher(
        predict,
        executor=executor,
        max_batch_size=size,
        max_waiting=waiting,
        wait_s=wait_s,
        on_batch=note,
    )


def run(test: Callable[[ThreadPoolExecutor], Coroutine[Any, Any, None]]) -> None:
    """On a loop, with the thread of forward passes; nothing may be left on either."""

    async def checked(executor: ThreadPoolExecutor) -> None:
        await test(executor)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(checked(executor))


async def started(*calls: Coroutine[Any, Any, Batched]) -> list[asyncio.Task[Batched]]:
    """Tasks that have run up to where they wait."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


def scores(batched: Batched) -> list[int]:
    return [round(verdict.score) for verdict in batched.verdicts]
