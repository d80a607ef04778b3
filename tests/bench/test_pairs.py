"""Rounds interleave, ratios are within rounds, and a way is chosen by its time."""

from __future__ import annotations

import itertools

import pytest

from tests.bench.pairs import Pace, Spread, Step, compare, fastest


class Clock:
    """Time that passes only in steps: ``step(seconds)`` takes the next of them each time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def step(self, name: str, *seconds: float) -> Step:
        durations = itertools.cycle(seconds)

        def step() -> None:
            self.order.append(name)
            self.now += next(durations)

        return step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tests.bench.pairs.perf_counter", lambda: clock.now)
    return clock


def test_ratios_of_interleaved_rounds(clock: Clock) -> None:
    """Three warm-up runs of each, then A B A B; both get slower together, the ratio stays."""
    ways = {"a": clock.step("a", 4, 4, 4, 8, 16), "b": clock.step("b", 2, 2, 2, 4, 8)}
    found = compare("", ways, images=1, pace=Pace(rounds=2, least_s=0))
    assert "".join(clock.order) == "aaabbb" + "abab"
    assert found.timings[0].seconds == Spread(median=12, low=8, high=16)
    assert found.timings[1].ratio == Spread(median=2, low=2, high=2)


def test_each_way_is_timed_for_as_long(clock: Clock) -> None:
    ways = {"slow": clock.step("s", 1.0), "fast": clock.step("f", 0.25)}
    found = compare("", ways, images=8, pace=Pace(rounds=7, least_s=2.0))
    assert clock.order.count("s") == 3 + 7 * 2
    assert clock.order.count("f") == 3 + 7 * 8
    assert [timing["images_per_s"] for timing in found.to_dict()["timings"]] == [8, 32]


def test_the_fastest(clock: Clock) -> None:
    ways = {"slow": clock.step("s", 2.0), "fast": clock.step("f", 1.0)}
    assert fastest(ways, Pace(rounds=7, least_s=0)) == "fast"
