"""A tally as Prometheus reads it: the text format, or OpenMetrics, which has exemplars."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.metrics import SPECS, Spec
from service.tally import Distribution, Tally

#: A bucket in prometheus-client's words.
Bucket = tuple[str, float] | tuple[str, float, Exemplar]

#: Longest id in an exemplar: OpenMetrics allows 128 characters with the label's name.
MAX_ID = 128 - len("request_id")
#: Ids that a client chose freely are left out: not every reader knows how others are escaped.
_PLAIN = re.compile(rf"[\w.:/=+@-]{{1,{MAX_ID}}}", re.ASCII)


def exposition(totals: Tally, accept: str) -> tuple[bytes, str]:
    """The text that a scraper accepts, and its Content-Type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Totals(totals))
    encode, content_type = _encoder(accept)
    return encode(registry), content_type


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """The library's choice; it stumbles over versions that are no numbers, as clients may send."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")


class Totals(Collector):
    """A tally in prometheus-client's own words; the library cannot add counts to a histogram."""

    def __init__(self, totals: Tally) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Families in the order of ``SPECS``; those without a sample are left out."""
        for spec in SPECS:
            family = self._family(spec)
            if family.samples or (spec.kind == "counter" and not spec.labels):
                yield family

    def _family(self, spec: Spec) -> Metric:
        if spec.bounds is not None:
            return self._histogram(spec, spec.bounds)
        kind = GaugeMetricFamily if spec.gauge else CounterMetricFamily
        family = kind(spec.name, spec.help, labels=spec.labels)
        found = {k[1]: v for k, v in self._totals.values.items() if k[0] == spec.name}
        if spec.kind == "counter" and not spec.labels:
            found.setdefault((), 0)
        for labels, value in found.items():
            family.add_metric(labels, value)
        return family

    def _histogram(self, spec: Spec, bounds: tuple[float, ...]) -> Metric:
        family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        for (name, labels), distribution in self._totals.distributions.items():
            if name != spec.name:
                continue
            family.add_metric(labels, list(_buckets(bounds, distribution)), distribution.total)
        return family


def _buckets(bounds: Sequence[float], distribution: Distribution) -> Iterator[Bucket]:
    """Upper bound, what is at or below it, and an exemplar."""
    reached = 0
    for place, count in enumerate(distribution.counts):
        reached += count
        bound = str(float(bounds[place])) if place < len(bounds) else "+Inf"
        known = distribution.exemplars.get(place)
        if known is None or not _PLAIN.fullmatch(known.id):
            yield bound, reached
        else:
            yield bound, reached, Exemplar({"request_id": known.id}, known.value, known.at)
