"""What holds whether or not anybody asks: said again with each report of a replica."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from service import metrics
from service.errors import DEADLINE_EXCEEDED, INTERNAL, NOT_READY, OK, OVERLOADED
from service.served import Models
from service.tally import Tally

#: Decisions and their reasons.
OUTCOMES = (("accept", "none"), ("abstain", "ambiguous"), ("reject", "atypical_input"))

PROTOCOLS = ("http", "grpc", "oip_http", "oip_grpc")
_FAILED = (INTERNAL, OVERLOADED, DEADLINE_EXCEEDED, NOT_READY)
#: How requests end that alerts count; other codes appear with their first request.
ENDINGS = (OK, *(status.code for status in _FAILED))


def standing(models: Models, gpu_bytes: int | None = None) -> Tally:
    """Counters at zero, so that ``rate()`` sees their first event, and what models hold now."""
    tally = Tally()
    for model in models:
        count_model(tally, model.name.name, model.labels, model.threshold, model.reference_size)
    for protocol, ending in itertools.product(PROTOCOLS, ENDINGS):
        tally.count(metrics.REQUESTS, protocol, ending, by=0)
    tally.count(metrics.SHED, by=0)
    tally.count(metrics.QUEUE_IMAGES, by=models.waiting())
    if gpu_bytes is not None:
        tally.count(metrics.GPU_MEMORY, by=gpu_bytes)
    return tally


def count_model(
    tally: Tally, name: str, labels: Sequence[str], threshold: float, reference_size: int
) -> None:
    """One model: its decisions and ``labels`` at zero, and what its p-values are held against."""
    for outcome in OUTCOMES:
        tally.count(metrics.DECISIONS, name, *outcome, by=0)
    for index, label in enumerate(labels[: metrics.MAX_CLASSES + 1]):
        tally.count(metrics.PREDICTIONS, name, metrics.class_metric(label, index), by=0)
    tally.count(metrics.REJECTION_THRESHOLD, name, by=threshold)
    tally.count(metrics.REFERENCE_IMAGES, name, by=reference_size)
