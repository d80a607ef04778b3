"""Are the totals of ``/metrics`` what the clients have counted, request by request?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.faces import Fate
from tests.soak.traffic import Counts

#: What is expected, and the counters (name, labels) whose sum it is.
Watched = tuple[int, list[tuple[str, dict[str, str]]]]

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})?")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Growth of each counter, and what it had to be by the clients' own count.

    ``at_most`` is by how much a counter may fall short: 0, or what a killed replica answered in its
    last second.
    """

    what: str
    at_most: int
    answered: int
    counted: dict[str, int]
    expected: dict[str, int]
    wrong: list[str] = field(default_factory=list)

    @property
    def short(self) -> dict[str, int]:
        """How many each counter lacks."""
        return {name: n - self.counted[name] for name, n in self.expected.items()}

    @property
    def faults(self) -> list[str]:
        """Counters that are not as they must be."""
        return self.wrong + [
            f"{name}: {self.counted[name]}, not {self.expected[name]} (at most {self.at_most} less)"
            for name, lacking in self.short.items()
            if not 0 <= lacking <= self.at_most
        ]

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        return {**asdict(self), "short": self.short, "faults": self.faults}


def totals(
    what: str,
    model: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    counts: Counts,
    at_most: int = 0,
) -> Totals:
    """Of one image a request, all to ``model``, between two looks at the metrics."""
    growth = {name: after[name] - before.get(name, 0.0) for name in after}
    answered = Counter[str]()
    for (face, fate, _), n in counts.by.items():
        if fate == Fate.ANSWERED:
            answered[face] += n
    watched = _of_answers(model, answered)
    if not counts.failures():
        watched |= _of_requests(answered)
    return Totals(
        what=what,
        at_most=at_most,
        answered=answered.total(),
        counted={
            name: sum(_sum(growth, *one) for one in them) for name, (_, them) in watched.items()
        },
        expected={name: expected for name, (expected, _) in watched.items()},
        wrong=list(counts.wrong),
    )


def _of_answers(model: str, answered: Counter[str]) -> dict[str, Watched]:
    """Counters that an answer moves and a failed request does not."""
    labels = {"model": model}
    alone = ("decisions_total", "predictions_total", "p_value_count", "confidence_count")
    found: dict[str, Watched] = {
        name: (answered.total(), [(f"oodgate_{name}", labels)]) for name in alone
    }
    for face, n in answered.items():
        ok = {"protocol": face, "code": "ok"}
        found[f"requests_total of {face}"] = n, [("oodgate_requests_total", ok)]
    looked_at = [(f"oodgate_drift_{name}_total", labels) for name in ("images", "skipped")]
    found["drift_images_total and drift_skipped_total"] = answered.total(), looked_at
    return found


def _of_requests(answered: Counter[str]) -> dict[str, Watched]:
    """Counters that any request may move: to be compared where none has failed."""
    found: dict[str, Watched] = {
        "batch_images_sum": (answered.total(), [("oodgate_batch_images_sum", {})])
    }
    for face, n in answered.items():
        labels = {"protocol": face}
        found[f"request_seconds_count of {face}"] = n, [("oodgate_request_seconds_count", labels)]
    for stage in ("decode", "queue"):
        labels = {"stage": stage}
        seconds = [("oodgate_stage_seconds_count", labels)]
        found[f"stage_seconds_count of {stage}"] = answered.total(), seconds
    return found


def _sum(samples: Mapping[str, float], name: str, labels: Mapping[str, str]) -> int:
    total = 0.0
    for key, value in samples.items():
        match = _SAMPLE.fullmatch(key)
        if match is None or match[1] != name:
            continue
        found = dict(_LABEL.findall(match[2] or ""))
        if all(found.get(label) == wanted for label, wanted in labels.items()):
            total += value
    return round(total)
