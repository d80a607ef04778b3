"""Two versions of a bundle, exchanged again and again under load by ``oodgate deploy``.

No request may fail, none may be answered by a mixture of two versions, and once the command has
ended only the new version answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.running import Service
from tests.soak.expected import Version
from tests.soak.faces import FACES, Fate
from tests.soak.traffic import Counts, Traffic


@dataclass(frozen=True, kw_only=True)
class Swaps:
    """What came of it; ``stale``: answers of the old version to requests that were sent after the
    command had ended."""

    seconds: float
    deployed: int
    longest_deploy_s: float
    refused_deploys: tuple[str, ...]
    stale: tuple[str, ...]
    counts: Counts

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return self.counts.total - self.counts.of(Fate.ANSWERED) - len(self.mixed)

    @property
    def mixed(self) -> list[str]:
        """Answers that are no version's."""
        return self.counts.wrong

    @property
    def faults(self) -> list[str]:
        """All that must not be."""
        failures = [f"{what}: {n}" for what, n in self.counts.failures().items()]
        return [*self.refused_deploys, *self.stale, *self.mixed, *failures]

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": "swap",
            "seconds": round(self.seconds, 1),
            "requests": self.counts.total,
            "answers": self.counts.versions(),
            "failed": self.failed,
            "mixed": len(self.mixed),
            "stale": len(self.stale),
            "deployed": self.deployed,
            "longest_deploy_s": round(self.longest_deploy_s, 2),
            "slowest_request_s": round(self.counts.slowest_s, 2),
            "faults": self.faults[:50],
        }

    def __str__(self) -> str:
        answers = ", ".join(f"{v}: {n:,}" for v, n in self.counts.versions().items())
        return (
            f"swap: {self.deployed} deployments in {self.seconds:.0f} s (the longest "
            f"{self.longest_deploy_s:.1f} s), {self.counts.total:,} requests ({answers}), "
            f"{self.failed} failed, {len(self.mixed)} mixed, {len(self.stale)} stale; slowest "
            f"{self.counts.slowest_s:.2f} s" + "".join(f"\n  {fault}" for fault in self.faults[:20])
        )


def swapping(
    service: Service,
    versions: Sequence[Version],
    images: Sequence[bytes],
    *,
    every_s: float,
    rounds: int,
    threads: int = 8,
    say: Callable[[str], None],
) -> Swaps:
    """``rounds`` deployments, ``every_s`` apart, of each version in turn but the first one."""
    ports = (service.port, service.grpc_port)
    refused: list[str] = []
    stale: list[str] = []
    longest = 0.0
    began = time.monotonic()
    with Traffic(ports, images, versions, threads=threads) as traffic:
        for number in range(1, rounds + 1):
            due = began + number * every_s
            version = versions[number % len(versions)]
            start = time.monotonic()
            done = service.deploy(str(version.path))
            longest = max(longest, time.monotonic() - start)
            if done.returncode:
                refused.append(f"deployment {number}: {done.stderr.strip()[-300:]}")
            else:
                stale += _stale(ports, images, version, versions)
            counts = traffic.snapshot()
            failed = counts.total - counts.of(Fate.ANSWERED)
            say(f"  {number}/{rounds}: {counts.total:,} requests, {failed} not answered")
            time.sleep(max(0.0, due - time.monotonic()))
    return Swaps(
        seconds=time.monotonic() - began,
        deployed=rounds - len(refused),
        longest_deploy_s=longest,
        refused_deploys=tuple(refused),
        stale=tuple(stale),
        counts=traffic.counts,
    )


def _stale(
    ports: tuple[int, int], images: Sequence[bytes], version: Version, versions: Sequence[Version]
) -> list[str]:
    """A request over each face, after the swap: whichever is not answered by ``version``."""
    found = []
    for name, (kind, over_grpc) in FACES.items():
        caller = kind(ports[over_grpc], images, versions)
        try:
            fate, what = caller.ask(0)
        finally:
            caller.close()
        if (fate, what) != (Fate.ANSWERED, version.version):
            found.append(f"{name} after the swap to {version.version}: {fate} {what}")
    return found
