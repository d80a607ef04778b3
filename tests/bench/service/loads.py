"""What a load gave: each answer with its status and latency, and the figures made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

#: Statuses that count as an answer: HTTP's and gRPC's.
GOOD = frozenset({"200", "OK"})
#: No answer in time; none because the connection closed.
TIMEOUT, CLOSED = "timeout", "closed"


class Answer(NamedTuple):
    """``latency_s``: since the request was sent or, in an open loop, was due. ``done_s``: when the
    answer was whole, since the load's clock started (negative: before it)."""

    status: str
    latency_s: float
    done_s: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """Answers to a load of ``seconds``; each is for ``images`` images."""

    seconds: float
    images: int
    answers: tuple[Answer, ...]

    @property
    def images_per_s(self) -> float:
        """Images answered well within the load's time."""
        good = sum(a.status in GOOD and 0 <= a.done_s < self.seconds for a in self.answers)
        return good * self.images / self.seconds

    def quantile_ms(self, q: float) -> float:
        """Latency of the good answers that came after the clock started, milliseconds."""
        return 1000 * quantile(
            [a.latency_s for a in self.answers if a.status in GOOD and a.done_s >= 0], q
        )

    @property
    def statuses(self) -> dict[str, int]:
        """How many answers of each status."""
        return dict(sorted(Counter(a.status for a in self.answers).items()))

    def check(self, allowed: Iterable[str] = ()) -> Load:
        """Itself; raises ``SystemExit`` for answers neither good nor ``allowed``, or none at all:
        figures of failures are none."""
        unexpected = set(self.statuses) - GOOD - set(allowed)
        if unexpected or not self.answers:
            raise SystemExit(f"the load got answers that it should not: {self.statuses}")
        return self


def quantile(values: list[float], q: float) -> float:
    """The smallest value that at least a share ``q`` of all does not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
