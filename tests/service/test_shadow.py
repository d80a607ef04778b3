"""Shadows: which requests they see, what is counted of them, and that nobody waits for one."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model.image import UInt8Array
from service import metrics
from service.served import Models, ServedModel, Shadow
from service.shadow import MAX_PENDING, Shadows
from service.tally import Tally
from service.verdict import Verdict
from tests.service.batching import Gate
from tests.service.fakes import REJECTED, FakePredictor, image, images, model, verdict_on

Counts = Counter[tuple[str, ...]]


def counted(tally: Tally) -> Counts:
    """Images by version, live and shadow decision, and whether both say the same class."""
    return Counter(
        {k[1][1:]: n for k, n in tally.values.items() if k[0] == metrics.SHADOW.name and n}
    )


def shadowed(shadow: ServedModel, share: float = 1.0) -> tuple[Models, Shadows, Tally]:
    models, tally = Models([model()]), Tally()
    models.shadows = {"digits": Shadow(shadow, share)}
    return models, Shadows(models, tally), tally


async def settle() -> None:
    """Until nothing but this test runs."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 1 / 3, 0.3, 0.1, 0.07, 0.001])
def test_a_share_is_exact_and_evenly_spread(share: float) -> None:
    requests = 2000

    async def run() -> list[int]:
        predictor = FakePredictor()
        models, shadows, _ = shadowed(model(version="2", predictor=predictor), share)
        for number in range(requests):
            shadows.follow(models.default, images(number), None, [verdict_on(number)])
            if number % MAX_PENDING == 0:
                await settle()
        await settle()
        return sorted(number for batch in predictor.batches for number in batch)

    seen = asyncio.run(run())
    assert seen[0] == 0
    so_far = np.cumsum(np.isin(np.arange(requests), seen))
    assert np.abs(so_far - share * np.arange(1, requests + 1)).max() <= 1
    gaps = np.diff(seen)
    assert gaps.min(initial=requests) >= math.floor(1 / share)
    assert gaps.max(initial=0) <= math.ceil(1 / share) + 1


def test_a_shadow_that_is_busy_is_passed_by() -> None:
    async def run() -> tuple[list[list[int]], Counts]:
        gate = Gate()
        slow = model(version="2", predictor=_Gated(gate))
        models, shadows, tally = shadowed(slow)
        for number in range(50):
            shadows.follow(models.default, images(number), None, [verdict_on(number)])
        await gate.entered()
        for number in range(50, 90):
            shadows.follow(models.default, images(number), None, [verdict_on(number)])
        assert not counted(tally)
        gate.open()
        await settle()
        shadows.follow(models.default, images(90), None, [verdict_on(90)])
        await settle()
        return gate.predictor.batches, counted(tally)

    batches, counts = asyncio.run(run())
    assert [n for batch in batches for n in batch] == [*range(MAX_PENDING), 90]
    assert counts == {("2", "accept", "accept", "true"): MAX_PENDING + 1}


class _Gated(FakePredictor):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        return self._gate(images, alphas)


def test_a_slow_shadow_does_not_keep_another_from_its_share() -> None:
    async def run() -> list[list[int]]:
        gate, quick = Gate(), FakePredictor()
        models = Models([model("a"), model("b")])
        models.shadows = {
            "a": Shadow(model("a", "2", _Gated(gate)), 1.0),
            "b": Shadow(model("b", "2", quick), 1.0),
        }
        shadows = Shadows(models, Tally())
        for _ in range(2 * MAX_PENDING):
            shadows.follow(models.find("a"), images(1), None, [verdict_on(1)])
        await gate.entered()
        shadows.follow(models.find("b"), images(2), None, [verdict_on(2)])
        gate.open()
        await settle()
        return quick.batches

    assert asyncio.run(run()) == [[2]]


def test_decisions_are_counted_beside_the_live_ones() -> None:
    async def run() -> Counts:
        models, shadows, tally = shadowed(model(version="2"))
        live = [verdict_on(1), verdict_on(2), replace(REJECTED, class_label="class 3"), REJECTED]
        shadows.follow(models.default, images(1, 12, 3, 4), None, live)
        await settle()
        shadows.follow(models.default, images(5), 0.2, [replace(live[0], alpha=0.2)])
        await settle()
        return counted(tally)

    assert asyncio.run(run()) == {
        ("2", "accept", "accept", "true"): 2,
        ("2", "reject", "accept", "true"): 1,
        ("2", "reject", "accept", "false"): 1,
        ("2", "accept", "accept", "false"): 1,
    }


def test_images_that_a_shadow_fails_on_are_counted_by_the_code() -> None:
    async def run() -> Counts:
        models, shadows, tally = shadowed(model(version="2", predictor=FakePredictor(bad=[3])))
        ask = [(images(1, 2), 0.001), (images(3), None), (images(4), 0.5)]
        for pixels, alpha in ask:
            shadows.follow(models.default, pixels, alpha, [verdict_on(1)] * len(pixels))
            await settle()
        return counted(tally)

    assert asyncio.run(run()) == {
        ("2", "any", "unsupported_alpha", "false"): 2,
        ("2", "any", "internal", "false"): 1,
        ("2", "accept", "accept", "false"): 1,
    }


def test_nothing_is_done_without_a_shadow() -> None:
    async def run() -> None:
        models, tally = Models([model()]), Tally()
        Shadows(models, tally).follow(models.default, image(1)[None], None, [verdict_on(1)])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not tally

    asyncio.run(run())
