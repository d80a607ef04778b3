"""Processes of the service killed under load, one after another; at last a SIGTERM under load.

While a part is gone its requests may be refused in the service's own words or find their
connection broken, but none is answered wrongly, and the service is back by itself: the part is
there again, every face answers, and the plan, the metrics and ``oodgate deploy`` work.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service import processes
from tests.integration.running import Service
from tests.soak.expected import Version
from tests.soak.faces import FACES, Fate
from tests.soak.memory import named
from tests.soak.traffic import Traffic

#: A service that is not back by then has a fault.
BACK_WITHIN_S = 180.0
#: Answers over each face that tell that it works again.
ENOUGH = 5

#: What is killed, in this order.
PARTS = ("monitor", "replica", "haproxy", "python proxy", "haproxy manager", "controller")


@dataclass(frozen=True, kw_only=True)
class Blow:
    """One part killed: seconds until it was there again (``replaced_s``) and until all worked
    (``back_s``), how long requests failed, and what of them was said."""

    part: str
    replaced_s: float
    back_s: float
    failing_s: float
    requests: int
    failures: dict[str, int]
    wrong: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """All that must not be."""
        return self.wrong

    def to_dict(self) -> dict[str, Any]:
        return {"what": f"kill {self.part}", **vars(self)}

    def __str__(self) -> str:
        failed = sum(self.failures.values())
        reasons = "".join(f"\n    {what}: {n}" for what, n in self.failures.items())
        return (
            f"kill {self.part}: there again after {self.replaced_s:.1f} s, all works after "
            f"{self.back_s:.1f} s; of {self.requests:,} requests {failed} without an answer, the "
            f"last one {self.failing_s:.1f} s after the kill{reasons}"
            + "".join(f"\n    WRONG {fault}" for fault in self.wrong)
        )


def strike(service: Service, traffic: Traffic, part: str, replicas: int) -> Blow:
    """Kill one process that plays ``part`` and wait until the service is back."""
    before = traffic.snapshot()
    count = replicas if part == "replica" else 1
    # after a reload an old HAProxy stays until its last connection ends: it is no part any more
    service.wait_until(
        lambda: len(named(service.process.pid, part)) == count, f"{count} are the {part}"
    )
    victims = named(service.process.pid, part)
    began = time.monotonic()
    os.kill(victims[0].pid, signal.SIGKILL)
    service.wait_until(lambda: not processes.alive(victims[0]), f"the {part} has gone")

    def replaced() -> bool:
        return len(set(named(service.process.pid, part)) - {victims[0]}) >= len(victims)

    service.wait_until(replaced, f"there is another {part}")
    replaced_s = time.monotonic() - began
    answered = {face: traffic.answered(face) for face in FACES}
    service.wait_until(
        lambda: all(traffic.answered(face) >= answered[face] + ENOUGH for face in FACES),
        f"all faces answer again after the {part} was killed",
    )
    service.wait_until(
        lambda: _operates(service, replicas), f"plan and metrics work after the {part} was killed"
    )
    back_s = time.monotonic() - began
    after = traffic.snapshot()
    failed_at = [at for at in after.failed_at if at >= began]
    return Blow(
        part=part,
        replaced_s=round(replaced_s, 1),
        back_s=round(back_s, 1),
        failing_s=round(max(failed_at, default=began) - began, 1),
        requests=after.total - before.total,
        failures=_difference(after.failures(), before.failures()),
        wrong=tuple(after.wrong[len(before.wrong) :]),
    )


def _operates(service: Service, replicas: int) -> bool:
    """The plan is followed by all replicas, and the metrics are served."""
    try:
        status, text = service.request("GET", "/metrics")
        state = service.deploy()
    except OSError:
        return False
    lines = state.stdout.splitlines()
    return (
        status == 200
        and "oodgate_requests_total" in text
        and state.returncode == 0
        and lines[-1] == f"{replicas} replica(s)"
    )


@dataclass(frozen=True, kw_only=True)
class Ending:
    """SIGTERM under load. ``lost``: requests that a replica has answered, by its log, and whose
    caller got nothing."""

    seconds: float
    status: int
    left: tuple[str, ...]
    requests: int
    lost: int
    failures: dict[str, int]
    wrong: tuple[str, ...]

    @property
    def faults(self) -> list[str]:
        """All that must not be."""
        ended = [] if self.status == 0 else [f"exit status {self.status}"]
        lost = [f"{self.lost} answers lost"] if self.lost > 0 else []
        return [*ended, *lost, *(f"process {pid} is left" for pid in self.left), *self.wrong]

    def to_dict(self) -> dict[str, Any]:
        return {"what": "SIGTERM", **vars(self)}

    def __str__(self) -> str:
        reasons = "".join(f"\n    {what}: {n}" for what, n in self.failures.items())
        return (
            f"SIGTERM: status {self.status} after {self.seconds:.1f} s, {len(self.left)} processes "
            f"left, {self.requests:,} requests, {self.lost} lost{reasons}"
            + "".join(f"\n    WRONG {fault}" for fault in self.wrong)
        )


def terminate(
    service: Service,
    images: Sequence[bytes],
    versions: Sequence[Version],
    log: Path,
    threads: int = 8,
) -> Ending:
    """End the service while it is asked; ``log`` is its access log, and nobody else asks."""
    started = set(service.descendants())
    logged = _answered_by(log)
    ports = (service.port, service.grpc_port)
    with Traffic(ports, images, versions, threads=threads) as traffic:
        service.wait_until(
            lambda: all(traffic.answered(face) >= ENOUGH for face in FACES), "all faces answer"
        )
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        status = service.process.wait(BACK_WITHIN_S)
        seconds = time.monotonic() - began
    counts = traffic.counts
    return Ending(
        seconds=round(seconds, 1),
        status=status,
        left=tuple(str(process.pid) for process in started if processes.alive(process)),
        requests=counts.total,
        lost=_answered_by(log) - logged - counts.of(Fate.ANSWERED),
        failures=counts.failures(),
        wrong=tuple(counts.wrong),
    )


def _answered_by(log: Path) -> int:
    """Requests that replicas have written down as answered."""
    return sum(json.loads(line)["code"] == "ok" for line in log.read_text().splitlines())


def _difference(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {what: n - before.get(what, 0) for what, n in after.items() if n > before.get(what, 0)}


def chaos(
    service: Service,
    versions: Sequence[Version],
    images: Sequence[bytes],
    *,
    parts: Sequence[str] = PARTS,
    replicas: int = 2,
    threads: int = 8,
) -> Iterator[Blow]:
    """Deploy the second version, then kill ``parts``; whoever starts again serves the second, too.

    Raises ``AssertionError`` where the service does not come back.
    """
    first, second = versions
    ports = (service.port, service.grpc_port)
    _deploy(service, second)
    with Traffic(ports, images, [second], threads=threads) as traffic:
        for part in parts:
            yield strike(service, traffic, part, replicas)
    _deploy(service, first)


def _deploy(service: Service, version: Version) -> None:
    done = service.deploy(str(version.path))
    assert done.returncode == 0, done.stderr
