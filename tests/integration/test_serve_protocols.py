"""One service behind each ingress: both protocols, good and bad input, metrics, sockets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.listening import listening

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration

LIMIT = 10 * 1024 * 1024


def _bad_inputs(images: Mapping[str, bytes]) -> dict[str, tuple[bytes, dict[str, Any], int]]:
    """Code of the error: image, parameters, HTTP status."""
    good = images["0"]
    huge = (8000).to_bytes(4, "big")
    return {
        "empty_image": (b"", {}, 400),
        "not_an_image": (b"not an image", {}, 400),
        "truncated_image": (good[: len(good) // 2], {}, 400),
        "image_too_large": (_resized_header(good, huge), {}, 400),
        "body_too_large": (bytes(LIMIT + 1), {}, 413),
        "bad_parameter": (good, {"alpha": 1.5}, 400),
        "unsupported_alpha": (good, {"alpha": 1e-6}, 400),
    }


def _resized_header(png: bytes, side: bytes) -> bytes:
    """A PNG that claims another size; the claim is refused before a pixel is decoded."""
    import zlib

    header = b"IHDR" + side + side + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def test_both_protocols_give_the_same_verdict(
    service: Service, images: Mapping[str, bytes]
) -> None:
    for name, image in images.items():
        status, verdict = service.classify(image, f"?id={name}&alpha=0.1&top_k=4")
        code, message = service.classify_grpc(image, id=name, alpha=0.1, top_k=4)
        assert (status, code) == (200, grpc.StatusCode.OK)
        assert verdict == message
        assert verdict["decision"] in ("accept", "abstain", "reject")
        assert verdict["rejected"] == (verdict["decision"] == "reject")


def test_each_bad_input_reads_the_same_and_the_service_goes_on(
    service: Service, images: Mapping[str, bytes]
) -> None:
    for code, (image, parameters, status) in _bad_inputs(images).items():
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        found_status, found = service.classify(image, f"?{query}")
        found_code, details = service.classify_grpc(image, **parameters)
        assert (found_status, found["code"]) == (status, code)
        assert (found_code, details) == (grpc.StatusCode.INVALID_ARGUMENT, found["error"])
        assert "Traceback" not in found["error"]
        assert service.classify(images["0"])[0] == 200


def test_a_body_of_unknown_length_is_refused_too(service: Service) -> None:
    status, found = service.classify(iter([bytes(1024 * 1024)] * 12))
    assert (status, found["code"]) == (413, "body_too_large")


def test_good_and_bad_requests_at_once(service: Service, images: Mapping[str, bytes]) -> None:
    expected = {name: service.classify(image, "?id=x")[1] for name, image in images.items()}
    bad = {"empty": b"", "text": b"not an image", "half": images["0"][:60]}
    work = [*images.items(), *bad.items()] * 8

    def ask(job: tuple[int, tuple[str, bytes]]) -> bool:
        number, (name, image) = job
        if number % 2:
            code, found = service.classify_grpc(image, id="x")
            good = code == grpc.StatusCode.OK
            assert good or code == grpc.StatusCode.INVALID_ARGUMENT
        else:
            status, found = service.classify(image, "?id=x")
            good = status == 200
            assert good or status == 400
        assert good == (name in images)
        return not good or _same(found, expected[name])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, enumerate(work)))


def _same(found: Any, expected: Any) -> bool:
    """Equal up to the last digits, which depend on the size of the batch, and so up to one rank."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _same(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-3, abs_tol=0.01)
    return bool(found == expected)


def test_health_over_both_protocols(service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        assert service.request("GET", path)[0] == 200
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "oodgate.v1.Classifier"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert set(stub.List(health_pb2.HealthListRequest()).statuses) >= {""}
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as watch:
            list(stub.Watch(health_pb2.HealthCheckRequest()))
        assert watch.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert watch.value.details() == "Watch is not served; poll Check"


def test_docs_and_framework_errors(service: Service) -> None:
    assert "/v1/classify" in service.request("GET", "/docs")[1]
    for method, path, status in (("GET", "/nowhere", 404), ("GET", "/v1/classify", 405)):
        found_status, text = service.request(method, path)
        assert found_status == status
        assert set(json.loads(text)) == {"error", "code"}


def test_totals_over_all_replicas_are_exact(service: Service, images: Mapping[str, bytes]) -> None:
    """Whatever was asked of this service so far, each request is counted once."""
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: service.classify(images["noise"])[0], range(60)))
    assert statuses == [200] * 60
    service.wait_until(lambda: _total(service, "requests") == service.asked, "all are counted")
    found = service.metrics()
    answered = sum(
        value for name, value in found.items() if "requests_total{" in name and '"ok"' in name
    )
    assert answered >= 60
    images_answered = answered + service.companions
    for counter in ("decisions", "predictions"):
        assert _total(service, counter) == images_answered
    for histogram in ("p_value", "confidence"):
        assert found[f'oodgate_{histogram}_count{{model="digits"}}'] == images_answered
    assert found["oodgate_batch_images_sum"] == images_answered


def _total(service: Service, counter: str) -> float:
    prefix = f"oodgate_{counter}_total{{"
    return sum(value for name, value in service.metrics().items() if name.startswith(prefix))


def test_nothing_listens_beyond_loopback(service: Service) -> None:
    pids = {process.pid for process in service.descendants()} | {service.process.pid}
    found = listening(pids)
    ports = {port for _, port in found}
    assert {service.port, service.grpc_port} <= ports
    assert {address for address, _ in found} <= {"127.0.0.1"}
