"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Progress:
    """Counts ``unit``s up to ``total`` with named figures; use as a context manager.

    Where standard error is not a terminal it prints a plain line at most every ``interval``
    seconds, and one at the end. ``shown`` False counts in silence.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str = "img",
        initial: int = 0,
        interval: float = 10.0,
        shown: bool = True,
    ) -> None:
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit=unit,
            unit_scale=True,
            dynamic_ncols=True,
            disable=None if shown else True,  # None: tqdm's word for "only on a terminal"
        )
        self._shown = shown
        self._label, self._total, self._unit = label, total, unit
        self._done, self._initial = initial, initial
        self._interval = interval
        self._start = self._last = time.monotonic()
        self._figures: dict[str, str] = {}

    @property
    def _plain(self) -> bool:
        return self._shown and bool(self._bar.disable)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._plain and self._done > self._initial:
            self._print()
        self._bar.close()

    def advance(self, count: int, **figures: str) -> None:
        """Count ``count`` more; ``figures`` replace those shown."""
        self._done += count
        if figures:
            self._figures = figures
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(count)
        now = time.monotonic()
        if self._plain and now - self._last >= self._interval:
            self._last = now
            self._print()

    def _print(self) -> None:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (self._done - self._initial) / elapsed
        left = (self._total - self._done) / max(rate, 1e-9)
        figures = "".join(f", {name} {value}" for name, value in self._figures.items())
        line = (
            f"{self._label}: {self._done:,} of {self._total:,} {self._unit}{figures}, "
            f"{rate:,.0f} {self._unit}/s, {_minutes(left)} left"
        )
        say(line)


def say(line: str) -> None:
    """A line on standard error, at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def watch(rows: Iterable[Item], *, total: int, label: str, shown: bool = True) -> Iterator[Item]:
    """Pass ``rows`` through while showing how many went by."""
    with Progress(label, total, shown=shown) as progress:
        for row in rows:
            yield row
            progress.advance(1)
