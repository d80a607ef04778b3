"""Figures of a load: what counts, within which time, and that failures are no figures."""

from __future__ import annotations

import math

import pytest

from tests.bench.service.generator import arrivals
from tests.bench.service.loads import TIMEOUT, Answer, Load, quantile


def load(*answers: Answer) -> Load:
    return Load(seconds=2.0, images=32, answers=answers)


def test_only_good_answers_within_the_time_count() -> None:
    found = load(
        Answer("200", 0.1, -0.1),
        Answer("OK", 0.2, 0.0),
        Answer("200", 0.3, 1.9),
        Answer("429", 0.001, 1.0),
        Answer("200", 0.4, 2.1),
    )
    assert found.images_per_s == 2 * 32 / 2.0
    assert found.statuses == {"200": 3, "429": 1, "OK": 1}


def test_latencies_are_of_good_answers_once_the_clock_runs() -> None:
    found = load(
        Answer("200", 9.0, -0.1), Answer("429", 5.0, 0.5), *(Answer("200", 0.1, 1.0),) * 99
    )
    assert found.quantile_ms(0.99) == pytest.approx(100)
    assert load(*found.answers, Answer("200", 0.5, 2.5)).quantile_ms(1) == pytest.approx(500)


@pytest.mark.parametrize(
    ("values", "q", "expected"), [([3, 1, 2], 0.5, 2), ([1], 0.99, 1), ([*range(1, 101)], 0.99, 99)]
)
def test_quantile_is_one_of_the_values(values: list[float], q: float, expected: float) -> None:
    assert quantile(values, q) == expected


def test_a_quantile_of_nothing_is_no_number() -> None:
    assert math.isnan(quantile([], 0.5))


def test_failures_are_refused_unless_expected() -> None:
    found = load(Answer("200", 0.1, 0.1), Answer(TIMEOUT, 9.0, 1.0))
    assert found.check(allowed=(TIMEOUT,)) is found
    with pytest.raises(SystemExit, match="timeout"):
        found.check()
    with pytest.raises(SystemExit):
        load().check()


def test_arrivals_are_the_same_for_a_seed_and_as_many_as_asked_for() -> None:
    """Poisson of mean 4000: within six standard deviations, for this seed always."""
    found = list(arrivals(400.0, 10.0, 3))
    assert found == list(arrivals(400.0, 10.0, 3))
    assert found == sorted(found)
    assert found[-1] < 10
    assert abs(len(found) - 4000) < 6 * math.sqrt(4000)
