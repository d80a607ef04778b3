"""The metrics of the service: what is counted, how replicas hand it over, where it is kept.

Every metric is declared here and nowhere else. A replica counts into its own ``Tally`` and a
``Reporter`` hands the difference once a second to the one ``Monitor``, whose totals are exact for
the whole cluster: deltas are numbered, so one that is sent twice counts once. The Monitor renders
its totals with prometheus-client; when it restarts they begin at zero, which ``rate()`` allows for.

Not here: drift statistics, and Ray's and HAProxy's own metrics.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.errors import OK
from service.trace import Trace
from service.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One metric; with ``bounds`` (upper, ascending, without infinity) it is a histogram."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] | None = None
    gauge: bool = False


_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

REQUESTS = Spec(
    name="oodgate_requests_total",
    help="Classification requests by protocol and outcome (ok, or the code of the error).",
    labels=("protocol", "code"),
)
DECISIONS = Spec(
    name="oodgate_decisions_total",
    help="Verdicts by model, decision and reason.",
    labels=("model", "decision", "reason"),
)
PREDICTIONS = Spec(
    name="oodgate_predictions_total",
    help="Verdicts by predicted class; classes beyond the first 100 are counted as other.",
    labels=("model", "class_label"),
)
P_VALUE = Spec(
    name="oodgate_p_value",
    help="p-values of the verdicts; uniform on in-distribution traffic.",
    labels=("model",),
    bounds=(0.001, 0.005, 0.01, 0.025, 0.05, *_FRACTIONS, 1.0),
)
CONFIDENCE = Spec(
    name="oodgate_confidence",
    help="Calibrated probability of the predicted class.",
    labels=("model",),
    bounds=(*_FRACTIONS, 0.95, 0.99, 0.999, 1.0),
)
REQUEST_SECONDS = Spec(
    name="oodgate_request_seconds",
    help="From the arrival of a request in a replica to its answer, errors included.",
    labels=("protocol",),
    bounds=_SECONDS,
)
STAGE_SECONDS = Spec(
    name="oodgate_stage_seconds",
    help="Time an image spends in decode and queue; of a batch in forward, the gate included.",
    labels=("stage",),
    bounds=_SECONDS,
)
BATCH_IMAGES = Spec(
    name="oodgate_batch_images",
    help="Images in one forward pass.",
    bounds=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
SHED = Spec(name="oodgate_shed_total", help="Requests refused because too many were waiting.")
RELOADS = Spec(
    name="oodgate_reloads_total",
    help="Bundles that were to be deployed while the service ran, by outcome: swapped, shadowed, "
    "ended or refused.",
    labels=("outcome",),
)
SHADOW = Spec(
    name="oodgate_shadow_decisions_total",
    help="Images that a shadow has seen: its bundle, the live decision, the shadow's (or the code "
    "of its error), and whether both predict the same class.",
    labels=("model", "version", "live", "shadow", "same_class"),
)
MODEL_INFO = Spec(
    name="oodgate_model_info",
    help="1 for each bundle that is served.",
    labels=("name", "version"),
    gauge=True,
)

SPECS = (
    REQUESTS,
    DECISIONS,
    PREDICTIONS,
    P_VALUE,
    CONFIDENCE,
    REQUEST_SECONDS,
    STAGE_SECONDS,
    BATCH_IMAGES,
    SHED,
    RELOADS,
    SHADOW,
    MODEL_INFO,
)

#: Not exposed to Prometheus: what the Open Inference Protocol reports of each version.
STATISTICS = Spec(name="statistics", help="", labels=("model", "version", "field"))
LAST_INFERENCE = Spec(name="last_inference", help="", labels=("model", "version"), gauge=True)

_BY_NAME = {spec.name: spec for spec in (*SPECS, STATISTICS, LAST_INFERENCE)}

#: Classes that have a metric of their own; the rest are counted as ``other``.
MAX_CLASSES = 100

#: A metric's name and the values of its labels.
Key = tuple[str, tuple[str, ...]]


@dataclass
class Distribution:
    """Counts per bucket (the last one is above every bound) and the sum of what was observed."""

    counts: list[int]
    total: float = 0.0


@dataclass
class Tally:
    """Counts that add up. Not locked: a replica counts on its event loop only."""

    values: dict[Key, int] = field(default_factory=dict)
    distributions: dict[Key, Distribution] = field(default_factory=dict)

    def count(self, spec: Spec, *labels: str, by: int = 1) -> None:
        """Add to a counter, or set a gauge; ``by=0`` makes a counter visible before its first."""
        key = (spec.name, labels)
        self.values[key] = by if spec.gauge else self.values.get(key, 0) + by

    def observe(self, spec: Spec, value: float, *labels: str) -> None:
        """Add one value to a histogram. NaN is refused: it would poison the sum for ever."""
        if spec.bounds is None or math.isnan(value):
            raise ValueError(f"{spec.name}: {value} cannot be observed")
        distribution = self._distribution(spec, labels)
        distribution.counts[bisect.bisect_left(spec.bounds, value)] += 1
        distribution.total += value

    def merge(self, other: Tally) -> None:
        """Add all of another tally."""
        for (name, labels), value in other.values.items():
            self.count(_BY_NAME[name], *labels, by=value)
        for (name, labels), theirs in other.distributions.items():
            ours = self._distribution(_BY_NAME[name], labels)
            ours.counts = [a + b for a, b in zip(ours.counts, theirs.counts, strict=True)]
            ours.total += theirs.total

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


def class_metric(label: str, index: int) -> str:
    """How a class is named in metrics."""
    return label if index < MAX_CLASSES else "other"


def count_verdict(tally: Tally, model: str, verdict: Verdict) -> None:
    """One answered image."""
    tally.count(DECISIONS, model, verdict.decision.value, verdict.reason or "none")
    index = verdict.class_index
    tally.count(PREDICTIONS, model, class_metric(verdict.class_label, index))
    tally.observe(P_VALUE, verdict.p_value, model)
    tally.observe(CONFIDENCE, verdict.posterior[index], model)


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


class _Totals(Collector):
    """A tally in prometheus-client's own words; the library cannot add counts to a histogram."""

    def __init__(self, totals: Tally) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        for spec in SPECS:
            family = self._family(spec)
            if family.samples or not spec.labels:
                yield family

    def _family(self, spec: Spec) -> Metric:
        if spec.bounds is not None:
            return self._histogram(spec, spec.bounds)
        kind = GaugeMetricFamily if spec.gauge else CounterMetricFamily
        family = kind(spec.name, spec.help, labels=spec.labels)
        found = {k[1]: v for k, v in self._totals.values.items() if k[0] == spec.name}
        if not spec.labels:
            found.setdefault((), 0)
        for labels, value in found.items():
            family.add_metric(labels, value)
        return family

    def _histogram(self, spec: Spec, bounds: tuple[float, ...]) -> Metric:
        family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        for (name, labels), distribution in self._totals.distributions.items():
            if name != spec.name:
                continue
            reached, buckets = 0, []
            for bound, count in zip((*bounds, math.inf), distribution.counts, strict=True):
                reached += count
                buckets.append(("+Inf" if math.isinf(bound) else str(float(bound)), reached))
            family.add_metric(labels, buckets, distribution.total)
        return family


class Monitor:
    """The one place where the totals of all replicas live."""

    def __init__(self) -> None:
        self._totals = Tally()
        self._last: dict[str, int] = {}
        self._registry = CollectorRegistry()
        self._registry.register(_Totals(self._totals))

    async def record(self, source: str, number: int, delta: Tally) -> None:
        """Add a replica's delta once, however often it arrives."""
        if number > self._last.get(source, 0):
            self._last[source] = number
            self._totals.merge(delta)

    async def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def served(self, models: Iterable[tuple[str, str]]) -> None:
        """Name and version of what is served now; what was before has gone."""
        gone = [key for key in self._totals.values if key[0] == MODEL_INFO.name]
        for key in gone:
            del self._totals.values[key]
        for name, version in models:
            self._totals.count(MODEL_INFO, name, version)

    async def count(self, spec: Spec, *labels: str) -> None:
        """Add one to a counter of what the Monitor itself has seen."""
        self._totals.count(spec, *labels)

    async def statistics(self) -> dict[tuple[str, ...], int]:
        """What ``count_statistics`` has counted, by model, version and entry."""
        last = {
            (*key, "last_ms"): value for key, value in (await self.values(LAST_INFERENCE)).items()
        }
        return await self.values(STATISTICS) | last

    async def values(self, spec: Spec) -> dict[tuple[str, ...], int]:
        """A counter's values by its labels."""
        return {key[1]: value for key, value in self._totals.values.items() if key[0] == spec.name}
