"""Scores on their way from a model to the Monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest

from calibration.scored_rows import ScoredRows, held_out_rows
from model.image import UInt8Array
from service.bundle import Bundle
from service.drift_feed import DriftFeed, Look
from service.predictor import Predictor
from service.served import Models, load
from service.watched import Watched
from tests.service.fakes import model, runtime

NONE: list[float | None] = [None]


@pytest.fixture
def watched(bundle: Bundle) -> Watched:
    return Watched(Predictor(bundle), most_rows=10)


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
    watched.skip(5)
    rows, skipped = watched.take()
    assert (len(rows), skipped) == (10, 8 + 5)
    assert watched.take()[1] == 0


def test_seconds_of_the_gate_are_told_once(bundle: Bundle, watched: Watched) -> None:
    watched(noise(bundle, 2), NONE * 2)
    assert watched.take_gate_s() > 0
    assert watched.take_gate_s() == 0


@dataclass
class Central(Look):
    """Knows a model once it was introduced; ``fail`` is awaited before anything else."""

    known: set[tuple[str, str]] = field(default_factory=set)
    shown: list[tuple[str, str, int, int]] = field(default_factory=list)
    introduced: list[ScoredRows] = field(default_factory=list)
    fail: Callable[[], Awaitable[None]] | None = None

    async def observe(self, name: str, version: str, rows: ScoredRows, skipped: int) -> bool:
        if self.fail is not None:
            await self.fail()
        if (name, version) not in self.known:
            return False
        self.shown.append((name, version, len(rows), skipped))
        return True

    async def introduce(self, name: str, version: str, reference: ScoredRows, classes: int) -> None:
        self.known.add((name, version))
        self.introduced.append(reference)


@pytest.fixture
def models(bundle: Bundle) -> Models:
    return Models([load(bundle.path, runtime(), lambda *_: None), model("no scores")])


async def ask(models: Models, bundle: Bundle, images: int) -> None:
    await models.default.classify(noise(bundle, images), None)


def test_the_monitor_is_given_the_reference_when_it_has_none(
    bundle: Bundle, models: Models
) -> None:
    central = Central()
    name = (bundle.name, bundle.version)

    async def run() -> None:
        feed = DriftFeed(models, central)
        await feed.flush()
        await ask(models, bundle, 3)
        await feed.flush()
        central.known.clear()  # it has started again
        await ask(models, bundle, 2)
        await feed.flush()

    asyncio.run(run())
    assert [len(rows) for rows in central.introduced] == [bundle.calibration.reference_size] * 2
    assert central.shown == [(*name, 0, 0), (*name, 3, 0), (*name, 2, 0)]


def test_scores_that_did_not_arrive_are_counted_as_skipped(bundle: Bundle, models: Models) -> None:
    central = Central(known={(bundle.name, bundle.version)})

    async def refuse() -> None:
        raise ConnectionError

    async def hang() -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        feed = DriftFeed(models, central, timeout_s=0.01)
        for trouble in (refuse, hang):
            central.fail = trouble
            await ask(models, bundle, 3)
            await feed.flush()
        central.fail = None
        await ask(models, bundle, 1)
        await feed.flush()

    asyncio.run(run())
    assert central.shown == [(bundle.name, bundle.version, 1, 6)]


def test_a_feed_that_stops_hands_over_what_is_left(bundle: Bundle, models: Models) -> None:
    central = Central(known={(bundle.name, bundle.version)})

    async def run() -> None:
        feed = DriftFeed(models, central, period_s=3600)
        feed.start()
        await ask(models, bundle, 4)
        await feed.stop()

    asyncio.run(run())
    assert sum(shown[2] for shown in central.shown) == 4


def test_a_feed_that_is_stopped_in_the_middle_loses_no_count(
    bundle: Bundle, models: Models
) -> None:
    central = Central(known={(bundle.name, bundle.version)})
    entered = asyncio.Event()

    async def hang() -> None:
        entered.set()
        central.fail = None
        await asyncio.sleep(60)

    async def run() -> None:
        central.fail = hang
        await ask(models, bundle, 4)
        feed = DriftFeed(models, central, timeout_s=60)
        feed.start()
        await entered.wait()
        await feed.stop()

    asyncio.run(run())
    assert central.shown == [(bundle.name, bundle.version, 0, 4)]
    assert cast(Watched, models.default.watched).take()[1] == 0
