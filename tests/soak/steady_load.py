"""Minutes of traffic at a share of what the service can do, and what becomes of its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.running import Service
from tests.soak.expected import Version
from tests.soak.faces import Fate
from tests.soak.memory import resident
from tests.soak.traffic import Counts, Traffic

#: Resident memory may grow by this share from the first look to the end.
GROWTH = 0.05
#: Callers while capacity is measured, and while the load is held.
BUSY, HELD = 16, 32
SAMPLE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Soak:
    """``memory``: megabytes of each process at the first look and at the end."""

    capacity: float
    rate: float
    seconds: float
    first_look_s: float
    memory: dict[str, tuple[float, float]]
    changed: tuple[str, ...]
    counts: Counts

    @property
    def growth(self) -> dict[str, float]:
        """Of each process, as a share of what it had at the first look."""
        return {name: after / before - 1 for name, (before, after) in self.memory.items()}

    @property
    def faults(self) -> list[str]:
        """All that must not be."""
        failures = [f"{what}: {n}" for what, n in self.counts.failures().items()]
        grown = [f"{n} grew by {g:.1%}" for n, g in self.growth.items() if g > GROWTH]
        return [*self.counts.wrong, *failures, *grown, *self.changed]

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": "soak",
            "capacity_per_s": round(self.capacity, 1),
            "rate_per_s": round(self.rate, 1),
            "seconds": round(self.seconds, 1),
            "requests": self.counts.total,
            "answered": self.counts.of(Fate.ANSWERED),
            "slowest_s": round(self.counts.slowest_s, 2),
            "latest_s": round(self.counts.latest_s, 2),
            "first_look_s": self.first_look_s,
            "memory_mb": {
                name: {"first": round(a, 1), "end": round(b, 1), "growth": round(b / a - 1, 4)}
                for name, (a, b) in self.memory.items()
            },
            "faults": self.faults[:50],
        }

    def __str__(self) -> str:
        lines = [
            f"soak: {self.counts.total:,} requests in {self.seconds:.0f} s at {self.rate:.0f} of "
            f"{self.capacity:.0f} a second, {self.counts.total - self.counts.of(Fate.ANSWERED)} "
            f"not answered; slowest {self.counts.slowest_s:.2f} s; sent at most "
            f"{self.counts.latest_s:.2f} s late",
            f"{'process':30} {'MB, ' + format(self.first_look_s, '.0f') + ' s':>12} "
            f"{'MB, end':>9} {'growth':>8}",
        ]
        for name, (before, after) in self.memory.items():
            lines.append(f"{name:30} {before:12.0f} {after:9.0f} {after / before - 1:8.1%}")
        return "\n".join([*lines, *(f"  FAULT {fault}" for fault in self.faults)])


def soak(
    service: Service,
    versions: Sequence[Version],
    images: Sequence[bytes],
    *,
    share: float,
    seconds: float,
    capacity_s: float,
    say: Callable[[str], None],
) -> Soak:
    """Measure the capacity, then hold ``share`` of it; the first look is at a fifth of the time."""
    ports = (service.port, service.grpc_port)
    with Traffic(ports, images, versions, threads=BUSY) as traffic:
        time.sleep(capacity_s / 4)
        before, start = traffic.snapshot(), time.monotonic()
        time.sleep(capacity_s)
        answered = traffic.snapshot().of(Fate.ANSWERED) - before.of(Fate.ANSWERED)
        capacity = answered / (time.monotonic() - start)
    say(f"  capacity {capacity:.0f} requests a second over all faces")
    rate, look_s = share * capacity, seconds / 5
    began = time.monotonic()
    first: dict[str, float] = {}
    with Traffic(ports, images, versions, threads=HELD, rate=rate) as traffic:
        while (now := time.monotonic() - began) < seconds:
            time.sleep(min(SAMPLE_S, seconds - now))
            memory = _memory(service)
            if not first and time.monotonic() - began >= look_s:
                first = memory
            counts = traffic.snapshot()
            failed = counts.total - counts.of(Fate.ANSWERED)
            say(
                f"  {time.monotonic() - began:4.0f} s: {counts.total:,} requests, {failed} not "
                f"answered, {sum(memory.values()):,.0f} MB in all"
            )
        last = _memory(service)
    return Soak(
        capacity=capacity,
        rate=rate,
        seconds=time.monotonic() - began,
        first_look_s=look_s,
        memory={name: (first[name], last[name]) for name in first if name in last},
        changed=tuple(
            f"{name} was not there all the time" for name in sorted(first.keys() ^ last.keys())
        ),
        counts=traffic.counts,
    )


def _memory(service: Service) -> dict[str, float]:
    return {str(part): size for part, size in resident(service.process.pid).items()}
