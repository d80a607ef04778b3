"""Drift of what is served: alarms, the test that begins again after each, gauges by model."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration.arrays import FloatArray
from calibration.drift import AlarmBudget, DriftTest
from calibration.scored_rows import ScoredRows
from service import drift_watch, metrics
from service.drift_sight import Sight
from service.drift_watch import DriftWatch, DriftWatches
from service.monitor import Monitor
from service.tally import Tally

CLASSES = 3
BUDGET = AlarmBudget(days=10_000 / 86_400, rate=1)  # one false alarm in 10,000 images


def rows(scores: FloatArray, shift: float = 0.0) -> ScoredRows:
    """Of those S; ``energy`` is shifted, ``log_prob`` is not."""
    rng = np.random.default_rng(len(scores))
    return ScoredRows(
        scores=scores,
        columns={
            "log_prob": rng.normal(size=len(scores)),
            "energy": rng.normal(size=len(scores)) + shift,
        },
        predicted=rng.integers(0, CLASSES, len(scores)),
    )


def normal(seed: int, images: int, mean: float = 0.0) -> FloatArray:
    return np.random.default_rng(seed).normal(mean, 1.0, images)


REFERENCE = rows(normal(0, 1000))


@pytest.fixture
def watch() -> DriftWatch:
    return DriftWatch("digits", REFERENCE, CLASSES, BUDGET)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(drift_watch, "time", found)
    return found


def test_clean_scores_give_no_alarm_and_strange_ones_do(watch: DriftWatch) -> None:
    assert watch.add(rows(normal(1, 2000))) == 0
    assert 0 <= watch.score < watch.threshold
    assert watch.add(rows(normal(2, 100, 4.0))) >= 1


def test_after_an_alarm_the_test_begins_again_from_the_reference(watch: DriftWatch) -> None:
    """So a change that stays is told as often as it can be found anew, at the end as at first."""
    first = [watch.add(rows(normal(seed, 500, 4.0))) for seed in range(4)]
    assert min(first) >= 5
    assert max(first) <= 1.1 * min(first)
    assert watch.add(rows(normal(9, 400))) == 0  # and one that has gone is told no more
    assert watch.score < watch.threshold


def test_alarms_are_the_same_however_scores_are_cut_up() -> None:
    scores = np.concatenate([normal(1, 300), normal(2, 400, 3.0), normal(3, 100)])
    found = []
    for size in (1, 7, 800):
        watch = DriftWatch("digits", REFERENCE, CLASSES, BUDGET)
        alarms = [watch.add(rows(scores[i : i + size])) for i in range(0, len(scores), size)]
        found.append((sum(alarms), watch.score))
    assert found[0] == found[1] == found[2]
    assert found[0][0] > 1


def test_the_first_alarm_is_that_of_the_plain_test(watch: DriftWatch) -> None:
    scores = np.concatenate([normal(1, 300), normal(2, 60, 3.0)])
    plain = DriftTest(REFERENCE.scores, BUDGET)
    plain.update(scores)
    assert plain.alarm_at is not None
    assert watch.add(rows(scores[: plain.alarm_at - 1])) == 0
    assert watch.add(rows(scores[plain.alarm_at - 1 : plain.alarm_at])) == 1
    assert watch.score == 0


def test_a_score_that_is_not_finite_is_the_strangest(watch: DriftWatch) -> None:
    assert watch.add(rows(np.full(60, np.nan))) >= 1


def test_reference_rows_without_a_finite_score_are_left_out() -> None:
    some = np.where(np.arange(1000) % 2 == 0, np.nan, REFERENCE.scores)
    watch = DriftWatch("digits", rows(some), CLASSES, BUDGET)
    assert watch.add(rows(normal(1, 1000))) == 0


def test_what_moved_stands_first(watch: DriftWatch, clock: Clock) -> None:
    watch.add(rows(normal(1, 500), shift=0.5))
    first, *others = watch.moved()
    assert (first.name, watch.window_images) == ("energy", 500)
    assert first.effect > 3 > max(one.effect for one in others)
    assert {one.name for one in others} == {"score", "log_prob", "predicted_class"}


def test_distances_are_computed_every_few_seconds_only(watch: DriftWatch, clock: Clock) -> None:
    watch.add(rows(normal(1, 500)))
    before = watch.moved()
    watch.add(rows(normal(2, 500), shift=3.0))
    assert watch.moved() == before
    clock.now += drift_watch.DISTANCES_S + 1
    assert watch.moved() != before


def test_an_alarm_is_a_line_of_log_but_not_each_one(
    watch: DriftWatch, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "oodgate"):
        assert watch.add(rows(normal(1, 500, 4.0), shift=3.0)) > 1
    (line,) = caplog.messages
    assert re.search(r"images for digits have changed: alarm of drift \d images after", line)
    assert "energy" in line
    clock.now += drift_watch.LOGGED_S + 1
    with caplog.at_level(logging.WARNING, "oodgate"):
        watch.add(rows(normal(1, 500, 4.0)))
    assert len(caplog.messages) == 2


def sight(model: tuple[str, str], images: int, number: int = 1, **changes: Any) -> Sight:
    plain = Sight(
        source="a",
        number=number,
        name=model[0],
        version=model[1],
        rows=rows(normal(1, images)),
        skipped=0,
    )
    return replace(plain, **changes)


def told(watches: DriftWatches, spec: metrics.Spec) -> dict[tuple[str, ...], float]:
    return {k[1]: v for k, v in watches.told().values.items() if k[0] == spec.name}


def test_the_version_that_came_last_is_told_until_it_is_heard_of_no_more(clock: Clock) -> None:
    watches = DriftWatches(BUDGET)
    old, new = ("digits", "1"), ("digits", "2")
    for model in (old, new):
        watches.introduce(model, REFERENCE, CLASSES)
    watches.observe(sight(old, 77))
    assert told(watches, metrics.WINDOW_IMAGES) == {("digits",): 0}
    clock.now += drift_watch.FRESH_S + 1
    watches.observe(sight(old, 0, 2))  # rolled back
    assert told(watches, metrics.WINDOW_IMAGES) == {("digits",): 77}
    clock.now += drift_watch.FRESH_S + 1
    assert told(watches, metrics.WINDOW_IMAGES) == {}
    assert watches.observe(sight(old, 0, 3)) is not None
    assert told(watches, metrics.WINDOW_IMAGES) == {("digits",): 77}
    clock.now += drift_watch.KEPT_S + 1
    watches.introduce(new, REFERENCE, CLASSES)  # what is old goes, though nobody has asked
    assert watches.observe(sight(old, 0, 4)) is None


def test_a_model_that_is_introduced_twice_goes_on(clock: Clock) -> None:
    """Two replicas both find that the Monitor does not know it."""
    watches, model = DriftWatches(BUDGET), ("digits", "1")
    watches.introduce(model, REFERENCE, CLASSES)
    watches.observe(sight(model, 77))
    watches.introduce(model, REFERENCE, CLASSES)
    assert told(watches, metrics.WINDOW_IMAGES) == {("digits",): 77}


def test_a_sight_that_arrives_twice_is_looked_at_once() -> None:
    watches, model = DriftWatches(BUDGET), ("digits", "1")
    watches.introduce(model, REFERENCE, CLASSES)
    found = [
        watches.observe(sight(model, 50, number, source=source, skipped=3))
        for source, number in (("a", 1), ("a", 1), ("b", 1), ("a", 2), ("a", 1))
    ]
    counted = [tally is not None and bool(tally) for tally in found]
    assert counted == [True, False, True, True, False]
    assert told(watches, metrics.WINDOW_IMAGES) == {("digits",): 150}


def test_the_last_alarm_is_told_once_there_was_one() -> None:
    watches, model = DriftWatches(BUDGET), ("digits", "1")
    watches.introduce(model, REFERENCE, CLASSES)
    watches.observe(sight(model, 50))
    assert told(watches, metrics.DRIFT_LAST_ALARM) == {}
    before = time.time()
    watches.observe(sight(model, 0, 2, rows=rows(normal(1, 100, 4.0))))
    assert before <= told(watches, metrics.DRIFT_LAST_ALARM)["digits",] <= time.time()


def test_a_model_whose_reference_has_no_finite_score_is_not_tested() -> None:
    watches, model = DriftWatches(BUDGET), ("digits", "1")
    watches.introduce(model, rows(np.full(100, np.nan)), CLASSES)
    counted = watches.observe(sight(model, 50, skipped=3))
    assert counted is not None
    assert counted.values[metrics.DRIFT_SKIPPED.name, ("digits",)] == 53
    assert counted.values[metrics.DRIFT_IMAGES.name, ("digits",)] == 0
    assert told(watches, metrics.DRIFT_SCORE) == {}


def test_the_monitor_exposes_drift_beside_its_totals() -> None:
    async def run() -> tuple[bool, bool, str]:
        monitor, some = Monitor(BUDGET), rows(normal(1, 300, 4.0))
        seen = sight(("digits", "1"), 0, rows=some, skipped=2)
        unknown = await monitor.observe(seen)
        await monitor.introduce("digits", "1", REFERENCE, CLASSES)
        known = await monitor.observe(seen)
        tally = Tally()
        tally.count(metrics.SHED, by=5)
        await monitor.record("a", 1, tally)
        return unknown, known, (await monitor.exposition())[0].decode()

    unknown, known, text = asyncio.run(run())
    assert (unknown, known) == (False, True)
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(lines['oodgate_drift_alarms_total{model="digits"}']) >= 3
    assert float(lines['oodgate_drift_images_total{model="digits"}']) == 300
    assert float(lines['oodgate_drift_skipped_total{model="digits"}']) == 2
    assert float(lines['oodgate_drift_threshold{model="digits"}']) == pytest.approx(np.log(10_000))
    assert float(lines['oodgate_drift_window_images{model="digits"}']) == 300
    labels = '{model="digits",statistic="score"}'
    assert float(lines["oodgate_drift_window_distance" + labels]) > 0.9
    assert float(lines["oodgate_drift_window_effect" + labels]) > 10
    assert float(lines["oodgate_shed_total"]) == 5
