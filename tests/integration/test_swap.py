"""A few deployments under load; ``python -m tests.soak swap`` goes on for minutes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.expected import Mismatch
from tests.soak.expected import Version, check_answer, steady, versions_of
from tests.soak.faces import FACES, Fate
from tests.soak.swap import swapping
from tests.soak.traffic import Traffic
from tests.soak.variant import variant

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(start_service: Callable[..., Service]) -> Iterator[Service]:
    running = start_service("--replicas", "2")
    try:
        running.wait_until_announced()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def asked(digits_bundle: Path, second_bundle: Path, images: Mapping[str, bytes]) -> list[bytes]:
    found = steady(second_bundle, steady(digits_bundle, list(images.values())))
    assert len(found) >= 2
    return found


@pytest.fixture(scope="module")
def versions(digits_bundle: Path, second_bundle: Path, asked: list[bytes]) -> tuple[Version, ...]:
    return versions_of([digits_bundle, second_bundle], asked)


def test_no_request_fails_and_none_is_mixed(
    service: Service, versions: tuple[Version, ...], asked: list[bytes]
) -> None:
    found = swapping(service, versions, asked, every_s=2, rounds=4, say=lambda line: None)
    assert found.faults == []
    assert found.deployed == 4
    assert set(found.counts.versions()) == {version.version for version in versions}


def test_a_bad_bundle_is_refused_under_load_and_the_old_one_goes_on(
    service: Service, versions: tuple[Version, ...], asked: list[bytes], tmp_path: Path
) -> None:
    """It looks good from outside: only a replica that loads it finds the damage."""
    first, second = versions
    assert service.deploy(str(first.path)).returncode == 0
    bad = tmp_path / "bad"
    shutil.copytree(second.path, bad)
    weights = bad / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    ports = (service.port, service.grpc_port)
    with Traffic(ports, asked, [first], threads=4) as traffic:
        refused = service.deploy(str(bad))
        answered = {face: traffic.answered(face) for face in FACES}
        service.wait_until(
            lambda: all(traffic.answered(face) > answered[face] for face in FACES), "answers go on"
        )
    assert refused.returncode != 0
    assert "weights.safetensors" in refused.stderr
    assert traffic.counts.of(Fate.ANSWERED) == traffic.counts.total
    assert traffic.counts.wrong == []


def test_an_answer_of_two_versions_would_be_noticed(versions: tuple[Version, ...]) -> None:
    first, second = versions
    assert check_answer(first.answers[0], versions, 0) == first.version
    for name in ("class", "posterior", "alpha", "threshold", "reference_size", "prediction_set"):
        mixed = {**first.answers[0], name: second.answers[0][name]}
        with pytest.raises(Mismatch, match=name):
            check_answer(mixed, versions, 0)


def test_the_second_version_is_a_good_bundle(second_bundle: Path, tmp_path: Path) -> None:
    third = variant(second_bundle, tmp_path / "third")
    assert (third / "manifest.json").exists()
