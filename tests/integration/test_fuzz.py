"""Some hundred hostile requests; ``python -m tests.soak fuzz`` sends tens of thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.bundle import Bundle
from tests.soak import schema
from tests.soak.expected import Version, versions_of
from tests.soak.fuzz import fuzz

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(start_service: Callable[..., Service]) -> Iterator[Service]:
    running = start_service("--access-log", "none")
    try:
        running.wait_until_announced()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def version(digits_bundle: Path, images: Mapping[str, bytes]) -> Version:
    return versions_of([digits_bundle], list(images.values()))[0]


def test_hostile_requests_are_answered_without_a_server_error(
    service: Service, version: Version, images: Mapping[str, bytes], digits_bundle: Path
) -> None:
    shape = Bundle.load(digits_bundle).spec.shape
    good = list(images.values())
    found = fuzz(service, version, good, shape, requests=400, say=lambda line: None)
    assert found.requests == 400
    assert found.faults == []
    assert found.good == 4
    assert "Traceback" not in service.text()
    assert "incident" not in service.text()


def test_the_service_is_as_its_openapi_document_says(
    service: Service, version: Version, tmp_path: Path
) -> None:
    if not schema.is_built():
        pytest.skip("no .venv/clients/schemathesis: python -m tests.clients.environments builds it")
    found = schema.conform(service, version, tmp_path, examples=5)
    assert found.status == 0, found.output
    assert found.requests > 100
