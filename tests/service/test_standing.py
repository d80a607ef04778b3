from __future__ import annotations

import asyncio

from service import metrics
from service.served import Models
from service.standing import OUTCOMES, standing
from tests.service.batching import Gate
from tests.service.fakes import LABELS, VERDICT, FakePredictor, images, model


class _Held(FakePredictor):
    """Stands still until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def __call__(self, images, alphas):  # type: ignore[no-untyped-def]
        return self.gate(images, alphas)


def test_counters_stand_at_zero_before_the_first_request() -> None:
    found = standing(Models([model("a"), model("b")])).values
    assert found[metrics.SHED.name, ()] == 0
    for ending in ("ok", "internal", "not_ready", "deadline_exceeded", "overloaded"):
        for protocol in ("http", "grpc", "oip_http", "oip_grpc"):
            assert found[metrics.REQUESTS.name, (protocol, ending)] == 0
    for name in "ab":
        for labels in OUTCOMES:
            assert found[metrics.DECISIONS.name, (name, *labels)] == 0
        for label in LABELS:
            assert found[metrics.PREDICTIONS.name, (name, label)] == 0


def test_what_each_model_is_held_against_is_told() -> None:
    found = standing(Models([model("a")])).values
    assert found[metrics.REJECTION_THRESHOLD.name, ("a",)] == VERDICT.threshold
    assert found[metrics.REFERENCE_IMAGES.name, ("a",)] == VERDICT.reference_size


def test_gpu_memory_is_told_only_where_there_is_a_gpu() -> None:
    models = Models([model("a")])
    assert (metrics.GPU_MEMORY.name, ()) not in standing(models).values
    assert standing(models, 7).values[metrics.GPU_MEMORY.name, ()] == 7


def test_images_that_wait_are_told() -> None:
    async def run() -> list[float]:
        held = _Held()
        models = Models([model("a", predictor=held), model("b")])
        first = asyncio.create_task(models.find("a").classify(images(1), None))
        await held.gate.entered()
        rest = asyncio.create_task(models.find("a").classify(images(2, 3, 4), None))
        await asyncio.sleep(0)
        waiting = standing(models).values[metrics.QUEUE_IMAGES.name, ()]
        held.gate.open()
        await asyncio.gather(first, rest)
        return [waiting, standing(models).values[metrics.QUEUE_IMAGES.name, ()]]

    assert asyncio.run(run()) == [3, 0]
