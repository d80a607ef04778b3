"""Counts that add up: what a replica has counted, and what each answer adds to it."""

from __future__ import annotations

import bisect
import math
import time
from dataclasses import dataclass, field

from service.errors import OK
from service.metrics import (
    BY_NAME,
    CONFIDENCE,
    DECISIONS,
    LAST_INFERENCE,
    P_VALUE,
    PREDICTIONS,
    STATISTICS,
    Spec,
    class_metric,
)
from service.trace import Trace
from service.verdict import Verdict

#: A metric's name and the values of its labels.
Key = tuple[str, tuple[str, ...]]


@dataclass
class Exemplar:
    """One observation that can be looked up: the id of its request, and seconds since 1970."""

    id: str
    value: float
    at: float


@dataclass
class Distribution:
    """Counts per bucket (the last one is above every bound), the sum of what was observed, and the
    latest observation in a bucket that has an id."""

    counts: list[int]
    total: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)


@dataclass
class Tally:
    """Counts that add up. Not locked: a replica counts on its event loop only."""

    values: dict[Key, float] = field(default_factory=dict)
    distributions: dict[Key, Distribution] = field(default_factory=dict)

    def count(self, spec: Spec, *labels: str, by: float = 1) -> None:
        """Add to a counter, or set a gauge; ``by=0`` makes a counter visible before its first."""
        key = (spec.name, labels)
        self.values[key] = by if spec.gauge else self.values.get(key, 0) + by

    def observe(self, spec: Spec, value: float, *labels: str, id: str = "") -> None:
        """Add one value to a histogram. NaN is refused: it would poison the sum for ever."""
        if spec.bounds is None or math.isnan(value):
            raise ValueError(f"{spec.name}: {value} cannot be observed")
        distribution = self._distribution(spec, labels)
        bucket = bisect.bisect_left(spec.bounds, value)
        distribution.counts[bucket] += 1
        distribution.total += value
        if id:
            distribution.exemplars[bucket] = Exemplar(id, value, time.time())

    def merge(self, other: Tally) -> None:
        """Add all of another tally."""
        for (name, labels), value in other.values.items():
            self.count(BY_NAME[name], *labels, by=value)
        for (name, labels), theirs in other.distributions.items():
            ours = self._distribution(BY_NAME[name], labels)
            ours.counts = [a + b for a, b in zip(ours.counts, theirs.counts, strict=True)]
            ours.total += theirs.total
            ours.exemplars |= theirs.exemplars

    def take(self) -> Tally:
        """All counts so far; this tally begins again at nothing."""
        taken = Tally(self.values, self.distributions)
        self.values, self.distributions = {}, {}
        return taken

    def __bool__(self) -> bool:
        return bool(self.values or self.distributions)

    def _distribution(self, spec: Spec, labels: tuple[str, ...]) -> Distribution:
        empty = Distribution([0] * (len(spec.bounds or ()) + 1))
        return self.distributions.setdefault((spec.name, labels), empty)


def count_verdict(tally: Tally, model: str, verdict: Verdict) -> None:
    """One answered image."""
    index = verdict.class_index
    count_answer(
        tally,
        model,
        decision=verdict.decision.value,
        reason=verdict.reason,
        class_index=index,
        class_label=verdict.class_label,
        p_value=verdict.p_value,
        confidence=verdict.posterior[index],
    )


def count_answer(
    tally: Tally,
    model: str,
    *,
    decision: str,
    reason: str | None,
    class_index: int,
    class_label: str,
    p_value: float,
    confidence: float,
) -> None:
    """One answered image, by what of its verdict is counted."""
    tally.count(DECISIONS, model, decision, reason or "none")
    tally.count(PREDICTIONS, model, class_metric(class_label, class_index))
    tally.observe(P_VALUE, p_value, model)
    tally.observe(CONFIDENCE, confidence, model)


def count_statistics(tally: Tally, trace: Trace) -> None:
    """One request in the terms of the Open Inference Protocol; times in nanoseconds."""
    if trace.model is None:
        return
    name, version = trace.model.name, trace.model.version
    good = trace.code == OK
    outcome = "success" if good else "fail"
    entries = {f"{outcome}_count": 1, f"{outcome}_ns": round(1e9 * trace.seconds)}
    if good:
        entries["images"] = len(trace.verdicts)
        for stage, seconds in trace.stages.items():
            entries |= {f"{stage}_count": 1, f"{stage}_ns": round(1e9 * seconds)}
        tally.count(LAST_INFERENCE, name, version, by=round(1000 * time.time()))
    for entry, value in entries.items():
        tally.count(STATISTICS, name, version, entry, by=value)
