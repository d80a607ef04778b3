"""Scores on their way from a model to the Monitor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from calibration.scored_rows import ScoredRows, held_out_rows
from model.image import UInt8Array
from service.answer import ModelName
from service.bundle import Bundle
from service.drift_feed import RETIRED_S, DriftFeed, Look
from service.drift_sight import Sight
from service.predictor import Predictor
from service.served import Models, ServedModel, load
from service.watched import Watched
from tests.service.fakes import model, runtime

NONE: list[float | None] = [None]


@pytest.fixture
def watched(bundle: Bundle) -> Watched:
    found = Watched(Predictor(bundle), most_rows=10)
    found.begin()
    return found


def noise(bundle: Bundle, images: int, seed: int = 0) -> UInt8Array:
    shape = (images, *bundle.spec.shape)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_watched_predictor_answers_as_it_did_and_keeps_the_scores(
    bundle: Bundle, watched: Watched
) -> None:
    images, predictor = noise(bundle, 6), Predictor(bundle)
    assert watched(images, NONE * 6) == predictor(images)
    rows, skipped = watched.take()
    expected = predictor.score(images)
    assert skipped == 0
    assert rows.scores.tolist() == [verdict.score for verdict in predictor(images)]
    assert rows.columns.keys() == {"log_prob", *expected.statistics}
    assert rows.columns["log_prob"].tolist() == expected.log_prob.tolist()
    assert rows.predicted.tolist() == expected.logits.argmax(axis=1).tolist()
    assert len(watched.take()[0]) == 0


def test_scores_and_the_reference_are_of_one_kind(bundle: Bundle, watched: Watched) -> None:
    """Else the test of drift would find the difference: p-values from them are the verdicts'."""
    known = watched.reference.scores
    verdicts = watched(noise(bundle, 8), NONE * 8)
    scores = watched.take()[0].scores
    ranks = [(1 + int((known >= score).sum())) / (len(known) + 1) for score in scores]
    assert [v.p_value for v in verdicts] == pytest.approx(ranks, abs=1.01 / len(known))
    assert len(known) == bundle.calibration.reference_size
    assert np.isfinite(known).all()
    assert held_out_rows(bundle.calibration).columns.keys() == watched.reference.columns.keys()


def test_what_is_over_the_cap_is_counted(bundle: Bundle, watched: Watched) -> None:
    for seed in range(3):
        watched(noise(bundle, 6, seed), NONE * 6)
    rows, skipped = watched.take()
    assert (len(rows), skipped) == (10, 8)
    assert watched.take()[1] == 0


def test_nothing_is_kept_before_it_begins(bundle: Bundle) -> None:
    """A shadow's images, or a self-test's, are nobody's answers."""
    watched = Watched(Predictor(bundle), most_rows=10)
    watched(noise(bundle, 16), NONE * 16)
    rows, skipped = watched.take()
    assert (len(rows), skipped) == (0, 0)


def test_seconds_of_the_gate_are_told_once(bundle: Bundle, watched: Watched) -> None:
    watched(noise(bundle, 2), NONE * 2)
    assert watched.take_gate_s() > 0
    assert watched.take_gate_s() == 0


@dataclass
class Central(Look):
    """Knows a model once it was introduced, and a sight by its number, as the Monitor does.

    ``trouble`` is awaited before anything else, ``late`` after all is done.
    """

    known: set[tuple[str, str]] = field(default_factory=set)
    seen: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    numbers: set[tuple[str, str, int]] = field(default_factory=set)
    introduced: list[ScoredRows] = field(default_factory=list)
    trouble: Callable[[], Awaitable[None]] | None = None
    late: Callable[[], Awaitable[None]] | None = None

    async def observe(self, sight: Sight) -> bool:
        if self.trouble is not None:
            await self.trouble()
        model = sight.name, sight.version
        if model not in self.known:
            return False
        if (*model, sight.number) not in self.numbers:
            self.numbers.add((*model, sight.number))
            self.seen.setdefault(model, []).append((len(sight.rows), sight.skipped))
        if self.late is not None:
            await self.late()
        return True

    async def introduce(self, name: str, version: str, reference: ScoredRows, classes: int) -> None:
        self.known.add((name, version))
        self.introduced.append(reference)

    def images(self, model: ModelName) -> tuple[int, int]:
        """Looked at, and skipped."""
        sights = self.seen.get((model.name, model.version), [])
        return sum(rows for rows, _ in sights), sum(skipped for _, skipped in sights)


async def refuse() -> None:
    raise ConnectionError


async def hang() -> None:
    await asyncio.sleep(60)


@pytest.fixture
def served(bundle: Bundle) -> ServedModel:
    return load(bundle.path, runtime(), lambda *_: None)


@pytest.fixture
def models(served: ServedModel) -> Models:
    return Models([served, model("no scores")])


async def ask(model: ServedModel, images: int) -> None:
    shape = (images, *model.spec.shape)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    await model.classify(pixels, None)


def test_the_monitor_is_given_the_reference_when_it_has_none(
    bundle: Bundle, models: Models, served: ServedModel
) -> None:
    central = Central()

    async def run() -> None:
        feed = DriftFeed(models, central)
        await feed.flush()
        await ask(served, 3)
        await feed.flush()
        central.known.clear()  # it has started again
        await ask(served, 2)
        await feed.flush()

    asyncio.run(run())
    assert [len(rows) for rows in central.introduced] == [bundle.calibration.reference_size] * 2
    assert central.seen == {(bundle.name, bundle.version): [(0, 0), (3, 0), (2, 0)]}


@pytest.mark.parametrize("trouble", [refuse, hang])
@pytest.mark.parametrize("where", ["trouble", "late"])
def test_scores_are_shown_again_until_they_have_arrived_and_once(
    models: Models,
    served: ServedModel,
    where: str,
    trouble: Callable[[], Awaitable[None]],
) -> None:
    central = Central()

    async def run() -> None:
        feed = DriftFeed(models, central, timeout_s=0.05)
        await feed.flush()
        setattr(central, where, trouble)
        for _ in range(3):
            await ask(served, 3)
            await feed.flush()
        setattr(central, where, None)
        await feed.flush()

    asyncio.run(run())
    assert central.images(served.name) == (9, 0)


def test_a_feed_that_stops_hands_over_what_is_left(models: Models, served: ServedModel) -> None:
    central = Central()

    async def run() -> None:
        feed = DriftFeed(models, central, period_s=3600)
        feed.start()
        await ask(served, 4)
        await feed.stop()

    asyncio.run(run())
    assert central.images(served.name) == (4, 0)


@pytest.mark.parametrize("where", ["trouble", "late"])
def test_a_feed_that_is_stopped_in_the_middle_loses_nothing(
    models: Models, served: ServedModel, where: str
) -> None:
    central = Central()
    entered = asyncio.Event()

    async def hang_once() -> None:
        setattr(central, where, None)
        entered.set()
        await asyncio.sleep(60)

    async def run() -> None:
        feed = DriftFeed(models, central, timeout_s=60, period_s=3600)
        await feed.flush()
        await ask(served, 4)
        setattr(central, where, hang_once)
        feed.start()
        await entered.wait()
        await feed.stop()

    asyncio.run(run())
    assert central.images(served.name) == (4, 0)


def test_a_model_that_was_replaced_is_shown_until_its_last_requests_are_through(
    models: Models, served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    central, clock = Central(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    async def run() -> list[int]:
        feed = DriftFeed(models, central)
        await feed.flush()
        await ask(served, 3)
        models.put(model(served.name.name, "2"))
        await feed.flush()
        await ask(served, 2)  # a request that was on its way
        await feed.flush()
        before = len(central.numbers)
        clock[0] += RETIRED_S + 1
        await feed.flush()
        return [before, len(central.numbers)]

    before, after = asyncio.run(run())
    assert central.images(served.name) == (5, 0)
    assert before == after


def test_a_monitor_that_hangs_is_waited_for_once_for_all_models(bundle: Bundle) -> None:
    async def run() -> int:
        many = [
            ServedModel(Predictor(bundle), ModelName(name=f"m{i}", version="1"), runtime(), note)
            for i in range(5)
        ]
        for one in many:
            one.watched = Watched(Predictor(bundle))
        waiting = asyncio.Semaphore(0)

        async def wait() -> None:
            waiting.release()
            await hang()

        feed = DriftFeed(Models(many), Central(trouble=wait), timeout_s=60)
        task = asyncio.create_task(feed.flush())
        async with asyncio.timeout(60):
            for _ in many:
                await waiting.acquire()  # all are asked before any has answered
        task.cancel()
        return len(many)

    assert asyncio.run(run()) == 5


def note(images: int, seconds: float) -> None:
    """Of a batch."""
