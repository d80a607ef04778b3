"""What is seen of a service from outside: exact totals, and drift before a real Prometheus."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.deploy.dashboard import queries
from tests.integration.restarting import restart, restartable
from tests.integration.running import Service
from tests.soak.chaos import strike
from tests.soak.drift import Stream, bundles_for, drift, prometheus_of, streams
from tests.soak.expected import Version, steady, versions_of
from tests.soak.prometheus import Prometheus, missing, without_data
from tests.soak.totals import totals
from tests.soak.traffic import Traffic
from train.data import open_data

pytestmark = pytest.mark.integration

CLEAN, CHANGED, WITHIN = 120, 120, 100
#: One false alarm in a million images: by chance once in some thousand runs.
BUDGET = {"drift_days": 1.0, "drift_rate": 1e6 / 86_400}
#: A metric or a recorded series with its labels, in an expression.
SELECTOR = re.compile(r"\b(?:up|oodgate_\w+|\w+:oodgate_\w+:\w+)\b(?:\{[^}]*\})?")
NEEDS_A_GPU = ("GPU memory",)
#: Requests a second: few enough for a busy machine to keep up with.
RATE = 40.0


@pytest.fixture(scope="module")
def wanted() -> list[Stream]:
    typical = [row.image for row in open_data("digits:test")]
    rng = np.random.default_rng(0)
    strangers = [_png(rng.integers(0, 256, (8, 8))) for _ in range(CHANGED // 5)]
    return streams(typical, strangers, CLEAN, CHANGED, WITHIN)


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def service(
    digits_bundle: Path, wanted: list[Stream], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    bundles = bundles_for(digits_bundle, tmp_path_factory.mktemp("streams"), wanted)
    running = restartable([digits_bundle, *bundles], replicas=2, **BUDGET)
    try:
        running.wait_until_announced()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def asked(digits_bundle: Path, images: Mapping[str, bytes]) -> list[bytes]:
    return steady(digits_bundle, list(images.values()))


@pytest.fixture(scope="module")
def versions(digits_bundle: Path, asked: list[bytes]) -> tuple[Version, ...]:
    return versions_of([digits_bundle], asked)


def test_the_alert_of_drift_fires_when_images_change_and_only_then(
    service: Service, wanted: list[Stream]
) -> None:
    if absent := missing():
        pytest.skip(f"not installed: {', '.join(absent)}")
    with prometheus_of(service) as prometheus:
        outcomes = list(drift(service, prometheus, wanted, print))
        assert [rule["name"] for rule in prometheus.rules() if rule["health"] != "ok"] == []
        assert without_data(prometheus, _expressions(prometheus)) == []
    assert [fault for outcome in outcomes for fault in outcome.faults] == []


def _expressions(prometheus: Prometheus) -> list[str]:
    """What rules record, all that alerts select, and what the dashboard asks; GPUs are absent."""
    rules = prometheus.rules()
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    alerts = [rule["query"] for rule in rules if rule["type"] == "alerting"]
    selected = {selector for alert in alerts for selector in SELECTOR.findall(alert)}
    shown = [query for title, query in queries() if title not in NEEDS_A_GPU]
    assert recorded
    assert shown
    assert len(selected) >= len(alerts)
    return [*recorded, *sorted(selected), *shown]


def test_totals_are_what_clients_have_counted_while_replicas_come_and_go(
    service: Service, asked: list[bytes], versions: tuple[Version, ...]
) -> None:
    before = service.metrics()
    with Traffic((service.port, service.grpc_port), asked, versions, threads=4) as traffic:
        restart(service)
    found = totals("restart", versions[0].name, before, _settled(service), traffic.counts)
    assert found.answered > 100
    assert found.faults == []


def test_a_killed_replica_takes_its_last_second_at_most(
    service: Service, asked: list[bytes], versions: tuple[Version, ...]
) -> None:
    before = service.metrics()
    ports = (service.port, service.grpc_port)
    with Traffic(ports, asked, versions, threads=4, rate=RATE) as traffic:
        service.wait_until(lambda: traffic.snapshot().total > 3 * RATE, "there is traffic")
        strike(service, traffic, "replica", 2)
    # one of two replicas, its last second, and as much again for a busy machine
    last = round(2 * RATE / 2)
    found = totals("kill", versions[0].name, before, _settled(service), traffic.counts, last)
    assert found.faults == []


def _settled(service: Service) -> dict[str, float]:
    """The metrics once all replicas have reported: three looks, a second apart, are the same."""
    looks: list[dict[str, float]] = []

    def settled() -> bool:
        found = service.metrics()
        looks.append({key: value for key, value in found.items() if "_total" in key})
        return len(looks) >= LOOKS and all(look == looks[-1] for look in looks[-LOOKS:])

    service.wait_until(settled, "all has been reported")
    return service.metrics()


#: Of ``Service.wait_until``, five a second.
LOOKS = 15
