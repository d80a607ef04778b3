"""Traffic over all faces at once, in threads, each answer held against what it has to be.

A thread goes through the faces and the images in turn. Without a rate each asks again as soon as
it has its answer; with one they share a clock of equal steps, and say how late they were.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.clients.expected import Mismatch
from tests.soak.expected import Version
from tests.soak.faces import FACES, Caller, Fate

#: Wrong answers and failures that are kept to be shown.
KEPT = 20


@dataclass
class Counts:
    """Requests by face, fate and what; and the first few that should not be."""

    by: Counter[tuple[str, Fate, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    latest_s: float = 0.0
    slowest_s: float = 0.0

    def of(self, *fates: Fate) -> int:
        """How many met one of these fates."""
        return sum(n for (_, fate, _), n in self.by.items() if fate in fates)

    @property
    def total(self) -> int:
        return self.by.total()

    def versions(self) -> dict[str, int]:
        """Answers of each version."""
        found: Counter[str] = Counter()
        for (_, fate, what), n in self.by.items():
            if fate == Fate.ANSWERED:
                found[what] += n
        return dict(found)

    def failures(self) -> dict[str, int]:
        """All that was not answered, by face and reason."""
        return {
            f"{face}: {fate} {what}": n
            for (face, fate, what), n in sorted(self.by.items())
            if fate != Fate.ANSWERED
        }


class Traffic:
    """Runs within a ``with``; ``counts`` may be read at any time."""

    def __init__(
        self,
        ports: tuple[int, int],
        images: Sequence[bytes],
        versions: Sequence[Version],
        *,
        threads: int = 8,
        rate: float | None = None,
        faces: Iterable[str] = FACES,
    ) -> None:
        self.counts = Counts()
        self._faces = tuple(faces)
        self._ports = ports
        self._images = images
        self._versions = versions
        self._rate = rate
        self._steps = itertools.count()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), name=f"caller-{n}")
            for n in range(threads)
        ]

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def answered(self, face: str) -> int:
        """Answers over one face so far."""
        with self._lock:
            return sum(
                n for (f, fate, _), n in self.counts.by.items() if (f, fate) == (face, "answered")
            )

    def snapshot(self) -> Counts:
        """The counts as they are now."""
        with self._lock:
            c = self.counts
            return Counts(c.by.copy(), list(c.wrong), list(c.failed_at), c.latest_s, c.slowest_s)

    def _run(self, number: int) -> None:
        callers = {name: self._caller(name) for name in self._faces}
        names = itertools.cycle(self._faces)
        images = itertools.cycle(range(len(self._images)))
        for _ in range(number):  # so that they are not all at the same place
            next(names), next(images)
        try:
            while not self._end.is_set():
                if self._rate is not None and not self._wait(self._rate):
                    break
                name = next(names)
                self._ask(name, callers[name], next(images))
        finally:
            for caller in callers.values():
                caller.close()

    def _caller(self, name: str) -> Caller:
        kind, over_grpc = FACES[name]
        return kind(self._ports[over_grpc], self._images, self._versions)

    def _wait(self, rate: float) -> bool:
        """Until the next step is due; False where the end comes first."""
        with self._lock:
            due = self._start + next(self._steps) / rate
        late = time.monotonic() - due
        if late < 0:
            return not self._end.wait(-late)
        with self._lock:
            self.counts.latest_s = max(self.counts.latest_s, late)
        return True

    def _ask(self, name: str, caller: Caller, image: int) -> None:
        began = time.monotonic()
        wrong = ""
        try:
            fate, what = caller.ask(image)
        except Mismatch as error:
            fate, what, wrong = Fate.DIRTY, "a wrong answer", str(error)
        except Exception as error:  # an answer that cannot be read is as wrong
            fate, what, wrong = Fate.DIRTY, "no such answer", repr(error)
        now = time.monotonic()
        with self._lock:
            counts = self.counts
            counts.by[name, fate, what] += 1
            counts.slowest_s = max(counts.slowest_s, now - began)
            if fate != Fate.ANSWERED:
                counts.failed_at.append(now)
            if fate == Fate.DIRTY and len(counts.wrong) < KEPT:
                counts.wrong.append(f"{name}: {wrong or what}")
        if fate == Fate.BROKEN:
            self._end.wait(0.05)  # as a caller that tries again would
