"""Timing in interleaved rounds: A B C, A B C, ... so that what slows the machine slows them all.

A ratio is taken within each round and reported as the median over the rounds with its range.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch

Step = Callable[[], object]

#: Rounds by which a way is chosen; a ratio takes more.
CHOOSING_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long to measure: in each of ``rounds`` every way for at least ``least_s`` seconds."""

    rounds: int
    least_s: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and range of what the rounds gave."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One way of a comparison: seconds a step, and how many times as fast as the baseline."""

    name: str
    seconds: Spread
    ratio: Spread


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ways to do the same step, the first being the baseline; ``images`` are done in a step.

    ``target`` says what ratio is wanted, ``note`` what was chosen or left out, and why.
    """

    title: str
    images: int
    rounds: int
    timings: tuple[Timing, ...]
    target: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        for timing in data["timings"]:
            timing["images_per_s"] = self.images / timing["seconds"]["median"]
        return data

    def __str__(self) -> str:
        """A table; the ratio is speed relative to the first row."""
        lines = [self.title + (f" [{self.target}]" if self.target else "")]
        for timing in self.timings:
            rate = self.images / timing.seconds.median
            ratio = "baseline" if timing is self.timings[0] else str(timing.ratio)
            lines.append(f"  {timing.name:50} {rate:9.1f} images/s   {ratio}")
        return "\n".join([*lines, *([f"  ({self.note})"] if self.note else [])])


def compare(
    title: str,
    ways: Mapping[str, Step],
    *,
    images: int,
    pace: Pace,
    target: str = "",
    note: str = "",
) -> Comparison:
    """Time the ways in turn; the first is the baseline.

    Every way runs before the clock starts, so compilation is not counted.
    """
    repeats = {}
    for name, step in ways.items():
        seconds_of(step, 2)
        repeats[name] = max(1, round(pace.least_s / seconds_of(step, 1)))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pace.rounds):
        for name, step in ways.items():
            taken[name].append(seconds_of(step, repeats[name]))
    baseline = next(iter(taken.values()))
    timings = tuple(
        Timing(
            name=name,
            seconds=Spread.of(seconds),
            ratio=Spread.of([a / b for a, b in zip(baseline, seconds, strict=True)]),
        )
        for name, seconds in taken.items()
    )
    return Comparison(
        title=title, images=images, rounds=pace.rounds, timings=timings, target=target, note=note
    )


def fastest(ways: Mapping[str, Step], pace: Pace) -> str:
    """The name of the fastest way, by a few rounds of its own that no ratio is taken from."""
    choosing = Pace(rounds=CHOOSING_ROUNDS, least_s=pace.least_s / 2)
    found = compare("", ways, images=1, pace=choosing)
    return min(found.timings, key=lambda timing: timing.seconds.median).name


def seconds_of(step: Step, repeats: int = 1) -> float:
    """Mean seconds of a step; waits for the GPU where there is one."""
    _wait()
    began = perf_counter()
    for _ in range(repeats):
        step()
    _wait()
    return (perf_counter() - began) / repeats


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
