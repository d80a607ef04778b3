"""A few deployments under load, beside a second model that nobody swaps.

``python -m tests.soak swap`` goes on for minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from service.catalog import find_bundle
from tests.clients.expected import Mismatch
from tests.integration.together import verdicts_of
from tests.soak.expected import Version, check_answer, steady, versions_of
from tests.soak.faces import FACES, Fate
from tests.soak.memory import named
from tests.soak.swap import swapping
from tests.soak.traffic import Traffic
from tests.soak.variant import variant

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration

#: A bundle that ships, served beside the digits: of colour images and other classes.
OTHER = "cifar10"


@pytest.fixture(scope="module")
def service(start_service: Callable[..., Service]) -> Iterator[Service]:
    running = start_service(OTHER, "--replicas", "2")
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


@pytest.fixture(scope="module")
def other(images: Mapping[str, bytes]) -> Version:
    return versions_of([find_bundle(OTHER)], list(images.values()))[0]


def _asked_of(service: Service, version: Version, image: bytes) -> list[Mapping[str, Any]]:
    """The answers of both faces of our own, by the model's name."""
    status, over_http = service.classify(image, f"?model={version.name}")
    code, over_grpc = service.classify_grpc(image, model=version.name)
    assert (status, code) == (200, grpc.StatusCode.OK)
    assert isinstance(over_grpc, Mapping)
    return [over_http, over_grpc]


def test_each_model_answers_by_its_name(
    service: Service, versions: tuple[Version, ...], other: Version, images: Mapping[str, bytes]
) -> None:
    given = list(images.values())
    for found in _asked_of(service, other, given[0]):
        assert check_answer(found, [other], 0) == other.version
    named = verdicts_of(service, other.name, given)
    assert [v["class_label"] for v in named] == [a["class"]["label"] for a in other.answers]
    status, unnamed = service.classify(given[0])
    assert (status, unnamed["model"]["name"]) == (200, versions[0].name)
    status, refused = service.classify(given[0], "?model=third")
    assert status == 404
    assert refused["error"].endswith(f"expected one of {versions[0].name}, {other.name}")
    status, index = service.request("POST", "/v2/repository/index")
    assert [entry["name"] for entry in json.loads(index)] == [versions[0].name, other.name]


def test_no_request_fails_and_none_is_mixed(
    service: Service, versions: tuple[Version, ...], asked: list[bytes]
) -> None:
    found = swapping(service, versions, asked, every_s=2, rounds=4, say=lambda line: None)
    assert found.faults == []
    assert found.deployed == 4
    assert set(found.counts.versions()) == {version.version for version in versions}


def test_the_other_model_is_as_it_was(
    service: Service, other: Version, images: Mapping[str, bytes]
) -> None:
    for found in _asked_of(service, other, images["0"]):
        assert check_answer(found, [other], 0) == other.version


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


def test_a_replica_whose_bundle_has_gone_says_so_and_starts_once_it_is_back(
    service: Service, versions: tuple[Version, ...], asked: list[bytes], tmp_path: Path
) -> None:
    """The others go on with what they hold in memory."""
    second = versions[1]
    moved = tmp_path / "moved"
    shutil.copytree(second.path, moved)
    assert service.deploy(str(moved)).returncode == 0
    shutil.rmtree(moved)
    with Traffic((service.port, service.grpc_port), asked, [second], threads=2) as traffic:
        os.kill(named(service.process.pid, "replica")[0].pid, signal.SIGKILL)
        service.wait_until(lambda: f"a replica cannot start: {moved}" in service.text(), "it tried")
        answered = {face: traffic.answered(face) for face in FACES}
        service.wait_until(
            lambda: all(traffic.answered(face) > answered[face] for face in FACES), "answers go on"
        )
        shutil.copytree(second.path, moved)
        service.wait_until(lambda: "2 replica(s)" in service.deploy().stdout, "both serve again")
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
