"""Are the totals of ``/metrics`` what the clients have counted, request by request?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.faces import Fate
from tests.soak.traffic import Counts

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})?")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Growth of each counter, and what it had to be by the clients' own count.

    ``replicas`` lists which were stopped or killed meanwhile; ``at_most`` is by how much a counter
    may fall short: 0, or what a killed replica answered in its last second.
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
    answered: Counter[str] = Counter()
    for (face, fate, _), n in counts.by.items():
        if fate == Fate.ANSWERED:
            answered[face] += n
    of_model = {"model": model}
    names = ("oodgate_decisions_total", "oodgate_predictions_total")
    expected = dict.fromkeys(names, answered.total())
    counted = {name: _sum(growth, name, of_model) for name in names}
    for name in ("oodgate_p_value_count", "oodgate_confidence_count"):
        expected[name], counted[name] = answered.total(), _sum(growth, name, of_model)
    for protocol, n in answered.items():
        labels = {"protocol": protocol, "code": "ok"}
        name = f"oodgate_requests_total of {protocol}"
        expected[name], counted[name] = n, _sum(growth, "oodgate_requests_total", labels)
    looked_at = "oodgate_drift_images_total and _skipped_total"
    expected[looked_at] = answered.total()
    counted[looked_at] = sum(
        _sum(growth, f"oodgate_drift_{name}_total", of_model) for name in ("images", "skipped")
    )
    return Totals(
        what=what,
        at_most=at_most,
        answered=answered.total(),
        counted=counted,
        expected=expected,
        wrong=list(counts.wrong),
    )


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
