"""Timing in interleaved rounds: A B C, A B C, ... so that what slows the machine slows them all.

A ratio is taken within each round and reported as the median over the rounds with its range.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

Step = Callable[[], object]


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

    ``target`` says what ratio is wanted, ``note`` what was left out and why.
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
            lines.append(f"  {timing.name:34} {rate:9.1f} images/s   {ratio}")
        return "\n".join([*lines, *([f"  ({self.note})"] if self.note else [])])


def compare(
    title: str,
    ways: Mapping[str, Step],
    *,
    images: int,
    rounds: int,
    least_s: float,
    target: str = "",
    note: str = "",
) -> Comparison:
    """Time each way ``rounds`` times in turn, each time for at least ``least_s`` seconds.

    Every way runs before the clock starts, so compilation is not counted; one that fails then is
    left out, with its error in the note. The first way is the baseline and may not fail.
    """
    repeats: dict[str, int] = {}
    for name, step in ways.items():
        try:
            _seconds(step, 2)
            repeats[name] = max(1, round(least_s / _seconds(step, 1)))
        except Exception as error:  # a compiler may fail in any way, and that is a result
            if not repeats:
                raise
            note += f"; {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    taken: dict[str, list[float]] = {name: [] for name in repeats}
    for _ in range(rounds):
        for name, count in repeats.items():
            taken[name].append(_seconds(ways[name], count))
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
        title=title,
        images=images,
        rounds=rounds,
        timings=timings,
        target=target,
        note=note.removeprefix("; "),
    )


def _seconds(step: Step, repeats: int) -> float:
    """Mean seconds of a step; waits for the GPU where there is one."""
    _wait()
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    _wait()
    return (time.perf_counter() - began) / repeats


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
