"""Fuzzed requests from several threads, and what must hold of every answer to them.

No 5xx but those that are a documented answer to what was asked: 501 to a part of a protocol that
is not offered, 504 to a caller that set a timeout. 503 is not excluded: nothing that is sent may
take a replica away. Every error is in the service's own words, and every answer comes in time.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.integration.running import Service
from tests.soak.expected import Version
from tests.soak.faces import FACES, Fate
from tests.soak.fuzz_cases import Case, case
from tests.soak.memory import resident

#: No answer for so long is a hang, on a machine however busy.
DEADLINE_S = 120.0
#: Resident memory of a process may grow by this share from the first look to the end.
GROWTH = 0.05
#: After so many fuzzed requests a good one has to get its verdict.
GOOD_EVERY = 100

_GRPC_GOOD = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
#: Of HTTP, by the code in the answer: documented answers to what was asked.
_EXCLUDED = {501: "unsupported", 504: "deadline_exceeded"}


@dataclass(kw_only=True)
class Findings:
    """Answers by family and status; ``faults`` are what must not be, with the case's number."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    good: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    seconds: float = 0.0
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return self.statuses.total()

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": "fuzz",
            "requests": self.requests,
            "good_requests": self.good,
            "statuses": {f"{f}: {s}": n for (f, s), n in sorted(self.statuses.items())},
            "slowest_s": round(self.slowest_s, 2),
            "slowest": self.slowest,
            "seconds": round(self.seconds, 1),
            "memory_mb": {
                name: {"before": round(a, 1), "after": round(b, 1)}
                for name, (a, b) in self.memory.items()
            },
            "faults": self.faults,
        }

    def __str__(self) -> str:
        statuses: Counter[str] = Counter()
        for (_, status), n in self.statuses.items():
            statuses[status] += n
        shown = ", ".join(f"{status}: {n:,}" for status, n in sorted(statuses.items()))
        lines = [
            f"fuzz: {self.requests:,} requests in {self.seconds:.0f} s ({shown}), {self.good} good "
            f"ones between; slowest {self.slowest_s:.2f} s ({self.slowest})"
        ]
        lines += [f"  {n}: {a:.0f} MB, then {b:.0f} MB" for n, (a, b) in self.memory.items()]
        return "\n".join([*lines, *(f"  FAULT {fault}" for fault in self.faults)])


def fuzz(
    service: Service,
    version: Version,
    images: Sequence[bytes],
    shape: tuple[int, int, int],
    *,
    requests: int,
    seed: int = 0,
    threads: int = 4,
    settle: int = 0,
    say: Callable[[str], None],
) -> Findings:
    """Send requests 0 to ``requests``; memory is compared with that after the first ``settle``."""
    findings = Findings()
    numbers = itertools.count()
    lock = threading.Lock()
    began = time.monotonic()
    before: dict[str, float] = {}

    def work() -> None:
        sender = Sender(service.port, service.grpc_port)
        try:
            while (number := next(numbers)) < requests:
                sent = case(number, seed, version.name, shape)
                start = time.monotonic()
                status, fault = sender.send(sent)
                seconds = time.monotonic() - start
                wrong = number % GOOD_EVERY == 0 and _good(service, version, images, number)
                with lock:
                    findings.statuses[sent.family.split(":")[0], status] += 1
                    findings.good += number % GOOD_EVERY == 0
                    if seconds > findings.slowest_s:
                        findings.slowest_s = seconds
                        findings.slowest = f"request {number}, {sent.family}, {status}"
                    for what in (fault, wrong):
                        if what:
                            findings.faults.append(f"request {number}, {sent.family}: {what}")
                    if findings.requests == settle:
                        before.update(_memory(service))
                    if findings.requests % 500 == 0:
                        say(f"  {findings.requests:,} requests, {len(findings.faults)} faults")
        finally:
            sender.close()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    findings.seconds = time.monotonic() - began
    after = _memory(service)
    findings.memory = {name: (before[name], after[name]) for name in before if name in after}
    for name, (first, last) in findings.memory.items():
        if last > (1 + GROWTH) * first:
            findings.faults.append(f"{name} grew from {first:.0f} MB to {last:.0f} MB")
    return findings


class Sender:
    """Sends over one connection of each protocol and says what is wrong with an answer."""

    def __init__(self, port: int, grpc_port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options)

    def send(self, sent: Case) -> tuple[str, str]:
        """Status, and what must not be (empty: all is well)."""
        return self._send_grpc(sent) if sent.grpc else self._send_http(sent)

    def close(self) -> None:
        self._connection.close()
        self._channel.close()

    def _send_http(self, sent: Case) -> tuple[str, str]:
        try:
            self._connection.request("POST", sent.path, sent.body, dict(sent.headers))
            response = self._connection.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return "none", f"no answer: {error!r}"
        return str(status), _fault_of(status, content)

    def _send_grpc(self, sent: Case) -> tuple[str, str]:
        call = self._channel.unary_unary(sent.path)
        try:
            call(sent.body, timeout=DEADLINE_S)
        except grpc.RpcError as error:
            code, details = error.code(), str(error.details())
            good = code in _GRPC_GOOD and details and "Traceback" not in details
            return code.name, "" if good else f"{code.name} {details[:300]}"
        return "OK", ""


def _fault_of(status: int, content: bytes) -> str:
    if status < 400:
        return ""
    shown = f"{status} {content[:300]!r}"
    try:
        found = json.loads(content)
        clean = set(found) == {"error", "code"} and "Traceback" not in found["error"]
    except (ValueError, TypeError):
        return shown
    excluded = status < 500 or _EXCLUDED.get(status) == found["code"]
    return "" if clean and excluded else shown


def _good(service: Service, version: Version, images: Sequence[bytes], number: int) -> str:
    """What is wrong with the answer to a good request; a face after the other."""
    name = list(FACES)[number // GOOD_EVERY % len(FACES)]
    kind, over_grpc = FACES[name]
    caller = kind(service.grpc_port if over_grpc else service.port, images, [version])
    try:
        fate, what = caller.ask(number % len(images))
    except Exception as error:  # whatever an answer that is not right raises
        return f"a good request over {name}: {error!r}"
    finally:
        caller.close()
    return "" if fate == Fate.ANSWERED else f"a good request over {name}: {fate} {what}"


def _memory(service: Service) -> dict[str, float]:
    return {str(part): size for part, size in resident(service.process.pid).items()}
