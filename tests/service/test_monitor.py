import asyncio
import math
import random
import time
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import metrics
from service.monitor import FRESH_S, Monitor
from service.reporter import Reporter
from service.tally import Tally, count_statistics, count_verdict
from tests.service.fakes import VERDICT, trace


def _samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def _exposition(*tallies: Tally) -> bytes:
    async def collect() -> bytes:
        keeper = Monitor()
        for number, tally in enumerate(tallies, 1):
            await keeper.record("replica", number, tally)
        return (await keeper.exposition())[0]

    return asyncio.run(collect())


def test_deltas_of_many_replicas_add_up_to_what_was_counted() -> None:
    draw = random.Random(0)
    values = [draw.random() for _ in range(500)] + [0.05, 0.0, 1.0]
    tallies = [Tally() for _ in range(3)]
    for i, value in enumerate(values):
        tallies[i % 3].observe(metrics.P_VALUE, value, "digits")
        tallies[i % 3].count(metrics.REQUESTS, "http", "ok")
    samples, labels = _samples(_exposition(*tallies)), (("model", "digits"),)
    assert samples["oodgate_requests_total", (("code", "ok"), ("protocol", "http"))] == 503
    assert samples["oodgate_p_value_count", labels] == 503
    assert samples["oodgate_p_value_sum", labels] == pytest.approx(math.fsum(values))
    bounds = metrics.P_VALUE.bounds
    assert bounds is not None
    for bound in bounds:
        below = sum(value <= bound for value in values)
        place = (("le", str(float(bound))), *labels)
        assert samples["oodgate_p_value_bucket", place] == below


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        Tally().observe(metrics.P_VALUE, float("nan"), "digits")


def test_a_delta_that_arrives_twice_counts_once() -> None:
    async def collect() -> bytes:
        keeper, delta = Monitor(), Tally()
        delta.count(metrics.SHED)
        await keeper.record("a", 1, delta)
        await keeper.record("a", 1, delta)
        await keeper.record("b", 1, delta)
        return (await keeper.exposition())[0]

    assert _samples(asyncio.run(collect()))["oodgate_shed_total", ()] == 2


def test_a_monitor_that_answers_late_or_not_at_all_loses_nothing() -> None:
    keeper, tally, calls = Monitor(), Tally(), 0

    async def unreliable(source: str, number: int, delta: Tally) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 1:
            raise ConnectionError
        await keeper.record(source, number, delta)
        if calls % 3 == 2:
            raise ConnectionError

    async def run() -> bytes:
        reporter = Reporter(tally, unreliable, standing=Tally)
        for _ in range(20):
            tally.count(metrics.SHED)
            await reporter.flush()
        while not await reporter.flush():
            pass
        return (await keeper.exposition())[0]

    assert _samples(asyncio.run(run()))["oodgate_shed_total", ()] == 20


def test_a_graceful_stop_flushes() -> None:
    keeper, tally = Monitor(), Tally()

    async def run() -> bytes:
        reporter = Reporter(tally, keeper.record, standing=Tally, period_s=3600)
        reporter.start()
        tally.count(metrics.SHED, by=3)
        await reporter.stop()
        return (await keeper.exposition())[0]

    assert _samples(asyncio.run(run()))["oodgate_shed_total", ()] == 3
    assert not tally


def test_a_replica_that_stops_holds_nothing_from_then_on() -> None:
    keeper, told = Monitor(), asyncio.Event()

    def standing() -> Tally:
        tally = Tally()
        tally.count(metrics.QUEUE_IMAGES, by=7)
        return tally

    async def send(source: str, number: int, delta: Tally) -> None:
        await keeper.record(source, number, delta)
        told.set()

    async def run() -> list[float | None]:
        reporter = Reporter(Tally(), send, standing=standing, period_s=3600)
        reporter.start()
        await told.wait()
        before = _samples((await keeper.exposition())[0])
        await reporter.stop()
        after = _samples((await keeper.exposition())[0])
        return [found.get(("oodgate_queue_images", ())) for found in (before, after)]

    assert asyncio.run(run()) == [7, None]


def test_levels_stay_while_requests_are_counted_and_there_is_one_delta_a_period() -> None:
    """Something is always counted meanwhile, as under load."""
    keeper, tally, sent = Monitor(), Tally(), 0

    def standing() -> Tally:
        found = Tally()
        found.count(metrics.QUEUE_IMAGES, by=57)
        return found

    async def send(source: str, number: int, delta: Tally) -> None:
        nonlocal sent
        sent += 1
        tally.count(metrics.SHED)
        await keeper.record(source, number, delta)

    async def run() -> list[dict[Any, float]]:
        reporter = Reporter(tally, send, standing=standing, period_s=3600)
        reporter.start()
        await asyncio.sleep(0.01)
        first = _samples((await keeper.exposition())[0])
        assert sent == 1
        await reporter.flush()  # nothing of the standing values in it
        second = _samples((await keeper.exposition())[0])
        await reporter.stop()
        return [first, second, _samples((await keeper.exposition())[0])]

    found = asyncio.run(run())
    assert [samples.get(("oodgate_queue_images", ())) for samples in found] == [57, 57, None]
    assert found[-1]["oodgate_shed_total", ()] == 2  # while the last but one was on its way


def test_a_gauge_is_set_and_a_counter_is_visible_at_zero() -> None:
    first, second = Tally(), Tally()
    first.count(metrics.SHED, by=0)
    for tally in (first, second):
        tally.count(metrics.MODEL_INFO, "digits", "0123456789ab")
    samples = _samples(_exposition(first, second))
    assert samples["oodgate_shed_total", ()] == 0
    labels = (("name", "digits"), ("version", "0123456789ab"))
    assert samples["oodgate_model_info", labels] == 1


def test_a_monitor_that_restarts_is_told_the_standing_values_again() -> None:
    first, second, standing = Monitor(), Monitor(), Tally()
    standing.count(metrics.MODEL_INFO, "digits", "0123456789ab")
    told = asyncio.Event()
    keeper = first

    async def send(source: str, number: int, delta: Tally) -> None:
        await keeper.record(source, number, delta)
        told.set()

    async def run() -> bytes:
        nonlocal keeper
        reporter = Reporter(Tally(), send, standing=lambda: standing, period_s=0.001)
        reporter.start()
        await told.wait()
        keeper = second
        told.clear()
        await told.wait()
        await reporter.stop()
        return (await second.exposition())[0]

    labels = (("name", "digits"), ("version", "0123456789ab"))
    assert _samples(asyncio.run(run()))["oodgate_model_info", labels] == 1


def test_what_is_served_no_more_is_shown_no_more() -> None:
    async def run() -> bytes:
        keeper = Monitor()
        keeper.served([("digits", "1"), ("letters", "7")])
        keeper.served([("digits", "2"), ("letters", "7")])
        return (await keeper.exposition())[0]

    samples = _samples(asyncio.run(run()))
    shown = {labels for name, labels in samples if name == "oodgate_model_info"}
    assert shown == {
        (("name", "digits"), ("version", "2")),
        (("name", "letters"), ("version", "7")),
    }


def test_classes_beyond_the_first_hundred_share_a_name() -> None:
    labels, tally = [f"class {k}" for k in range(300)], Tally()
    for index in range(300):
        name = metrics.class_metric(labels[index], index)
        assert name == (labels[index] if index < metrics.MAX_CLASSES else "other")
        verdict = replace(
            VERDICT, class_index=index, class_label=labels[index], posterior=(0.5,) * 300
        )
        count_verdict(tally, "digits", verdict)
    counts = {k[1]: n for k, n in tally.values.items() if k[0] == metrics.PREDICTIONS.name}
    assert len(counts) == metrics.MAX_CLASSES + 1
    assert counts["digits", "other"] == 200


def test_statistics_add_up_by_version_and_are_not_exposed() -> None:
    tally = Tally()
    for count in (1, 3):
        count_statistics(tally, trace([VERDICT] * count))
    count_statistics(tally, trace([], code="bad_image"))
    count_statistics(tally, trace([], model=None, code="unknown_model"))

    async def run() -> tuple[dict[tuple[str, ...], int], bytes]:
        keeper = Monitor()
        await keeper.record("a", 1, tally)
        await keeper.record("b", 1, tally)
        return await keeper.statistics(), (await keeper.exposition())[0]

    found, text = asyncio.run(run())
    assert b"statistics" not in text
    assert {key[:2] for key in found} == {("digits", "0123456789ab")}
    entries = {key[2]: value for key, value in found.items()}
    assert (entries["success_count"], entries["fail_count"], entries["images"]) == (4, 2, 8)
    for stage, seconds in (("decode", 0.001), ("queue", 0.002), ("forward", 0.003)):
        assert entries[f"{stage}_count"] == 4
        assert entries[f"{stage}_ns"] == pytest.approx(4e9 * seconds)
    assert min(entries["success_ns"], entries["fail_ns"], entries["last_ms"]) > 0


def test_levels_are_summed_over_the_replicas_that_are_heard_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    keeper = Monitor()

    async def told(source: str, number: int, images: int) -> dict[Any, float]:
        delta = Tally()
        delta.count(metrics.QUEUE_IMAGES, by=images)
        await keeper.record(source, number, delta)
        return _samples((await keeper.exposition())[0])

    async def run() -> list[float]:
        found = [await told("a", 1, 5), await told("b", 1, 2), await told("a", 2, 0)]
        clock[0] += FRESH_S
        found.append(await told("b", 2, 3))
        clock[0] += FRESH_S
        found.append(_samples((await keeper.exposition())[0]))
        return [samples.get(("oodgate_queue_images", ()), -1) for samples in found]

    assert asyncio.run(run()) == [5, 7, 2, 3, -1]
