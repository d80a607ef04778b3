"""One image, one answer: through every face, alone and among others, online and in a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from calibration.conformal import attained_rank, beta_binomial_interval
from tests.integration.running import COMMAND, run
from tests.integration.together import TOGETHER, verdicts_of
from tests.soak.expected import Version, steady, versions_of
from tests.soak.faces import FACES, Fate
from train.data import open_data

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def test_images() -> list[bytes]:
    """Digits that the bundle has not seen."""
    return [row.image for row in open_data("digits:test")]


@pytest.fixture(scope="module")
def wanted(digits_bundle: Path, test_images: list[bytes]) -> tuple[list[bytes], Version]:
    """Some of them, and what the Predictor in this process answers."""
    images = steady(digits_bundle, test_images[:60])
    (version,) = versions_of([digits_bundle], images)
    return images, version


@pytest.mark.parametrize("face", FACES)
def test_each_face_gives_the_predictors_answer(
    service: Service, wanted: tuple[list[bytes], Version], face: str
) -> None:
    """Field by field, p-values within one rank: ``faces`` raises a mismatch."""
    images, version = wanted
    kind, over_grpc = FACES[face]
    caller = kind(service.grpc_port if over_grpc else service.port, images, [version])
    try:
        outcomes = [caller.ask(i) for i in range(len(images))]
    finally:
        caller.close()
    service.asked += len(images)
    assert {outcome.fate for outcome in outcomes} == {Fate.ANSWERED}


def test_many_in_one_request_and_the_table_say_the_same(
    service: Service, digits_bundle: Path, wanted: tuple[list[bytes], Version], tmp_path: Path
) -> None:
    images, version = wanted
    many = _asked(service, version.name, images)
    table = _scored(digits_bundle, images, tmp_path)
    for i, answer in enumerate(version.answers):
        rank = 1.01 / (answer["reference_size"] + 1)
        for found in (many[i], table[i]):
            assert found["decision"] == answer["decision"]
            assert found["class_label"] == answer["class"]["label"]
            assert found["p_value"] == pytest.approx(answer["p_value"], abs=rank)


def test_p_values_keep_their_word_through_the_wire(
    service: Service, wanted: tuple[list[bytes], Version], test_images: list[bytes]
) -> None:
    """Typical images: the share of p <= .05 in its 99% interval. Fixed images, fixed bundle."""
    n, alpha = wanted[1].answers[0]["reference_size"], 0.05
    found = _asked(service, wanted[1].name, test_images)
    low, high = beta_binomial_interval(len(found), attained_rank(n, alpha), n, 0.99)
    assert low <= sum(verdict["p_value"] <= alpha for verdict in found) <= high


def _asked(service: Service, model: str, images: list[bytes]) -> list[dict[str, Any]]:
    requests = -(-len(images) // TOGETHER)
    service.asked += requests
    service.companions += len(images) - requests
    return verdicts_of(service, model, images)


def _scored(bundle: Path, images: list[bytes], folder: Path) -> list[dict[str, Any]]:
    """Rows of ``oodgate score --local``, in the order of the images."""
    (folder / "images").mkdir()
    for i, image in enumerate(images):
        (folder / "images" / f"{i:03d}.png").write_bytes(image)
    out = folder / "table"
    data = ["--data", str(folder / "images"), "--out", str(out), "--local"]
    run([*COMMAND, "score", str(bundle), *data])
    return list(pq.read_table(out).to_pylist())
