"""Stock clients of the Open Inference Protocol, unchanged and in environments of their own.

Each script of ``tests/clients`` exercises one client against both ingresses and holds what it gets
against the verdicts of ``POST /v1/classify``. What no client sends is sent here by hand.
"""

from __future__ import annotations

import gzip
import http.client
import io
import json
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.clients import environments
from tests.clients.expected import ALPHA, NUMPY, OUTPUTS, Case, agree

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 300.0
SIZE_HEADER = "Inference-Header-Content-Length"
SCRIPTS = (
    "triton_http",
    "triton_http_aio",
    "triton_grpc",
    "triton_grpc_aio",
    "kserve_rest",
    "kserve_grpc",
)
#: Version 1 of KServe's protocol, which the service does not speak.
LEFT_OUT = {"kserve_rest": ["explain"]}


@pytest.fixture(scope="module")
def case(service: Service, images: Mapping[str, bytes]) -> Case:
    """The images, their pixels, and what the service's own interface says of them."""

    def verdicts(query: str) -> tuple[dict[str, Any], ...]:
        answers = [service.classify(image, query) for image in images.values()]
        assert {status for status, _ in answers} == {200}
        return tuple(verdict for _, verdict in answers)

    found = verdicts("")
    return Case(
        model=found[0]["model"]["name"],
        version=found[0]["model"]["version"],
        labels=tuple(str(digit) for digit in range(10)),
        images=tuple(images.values()),
        pixels=np.stack([np.asarray(Image.open(io.BytesIO(i)))[None] for i in images.values()]),
        verdicts=found,
        verdicts_at_alpha=verdicts(f"?alpha={ALPHA}"),
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_stock_client(service: Service, case: Case, script: str, tmp_path: Path) -> None:
    name = script.split("_")[0]
    if not environments.is_built(name):
        pytest.skip(f"no .venv/clients/{name}: python -m tests.clients.environments builds it")
    path = tmp_path / "case.json"
    case.save(path)
    port = service.grpc_port if "grpc" in script else service.port
    command = [str(environments.python(name)), "-m", f"tests.clients.{script}"]
    done = subprocess.run(
        [*command, f"127.0.0.1:{port}", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert report["never_called"] == LEFT_OUT.get(script, [])
    assert service.request("GET", "/readyz")[0] == 200


def _post(
    service: Service, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers by lower-case name, and body of a request with no header but these."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()
    finally:
        connection.close()


def _outputs(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of an answer in JSON; a null is a NaN."""
    return {
        output["name"]: np.array(output["data"], NUMPY[output["datatype"]]).reshape(output["shape"])
        for output in answer["outputs"]
    }


def _request(case: Case, data: Any, **more: Any) -> bytes:
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": list(case.pixels.shape)}
    return json.dumps({"inputs": [{**pixels, "data": data}], **more}).encode()


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain"])
def test_json_from_any_http_client(
    service: Service, case: Case, flat: bool, content_type: str | None
) -> None:
    data = case.pixels.ravel().tolist() if flat else case.pixels.tolist()
    headers = {"Content-Type": content_type} if content_type else {}
    for path in (f"/v2/models/{case.model}", f"/v2/models/{case.model}/versions/{case.version}"):
        body = _request(case, data, id="seven")
        status, found, text = _post(service, f"{path}/infer", body, headers)
        assert (status, found["content-type"]) == (200, "application/json"), text
        assert SIZE_HEADER.lower() not in found
        answer = json.loads(text)
        assert {"model_name", "model_version", "id", "parameters", "outputs"} <= answer.keys()
        assert (answer["model_name"], answer["id"]) == (case.model, "seven")
        assert answer["model_version"] == answer["parameters"]["version"] == case.version
        assert [output["name"] for output in answer["outputs"]] == list(OUTPUTS)
        agree(_outputs(answer), case.verdicts, case.labels)


def test_raw_binary_request(service: Service, case: Case) -> None:
    """The body is the one encoded image: nothing but a header makes a request of a file."""
    path = f"/v2/models/{case.model}/infer"
    for image, verdict in zip(case.images, case.verdicts, strict=True):
        status, found, body = _post(service, path, image, {SIZE_HEADER: "0"})
        assert status == 200, body
        size = int(found.get(SIZE_HEADER.lower(), len(body)))
        agree(_binary_outputs(body, size), [verdict], case.labels)
    for bad in (b"", b"not an image", case.images[0][:60]):
        status, _, body = _post(service, path, bad, {SIZE_HEADER: "0"})
        assert status == 400, body


def _binary_outputs(body: bytes, size: int) -> dict[str, Any]:
    """All outputs of a body that begins with so many bytes of JSON."""
    outputs: dict[str, Any] = {}
    begin = size
    for output in json.loads(body[:size])["outputs"]:
        count = output.get("parameters", {}).get("binary_data_size")
        if count is None:
            outputs |= _outputs({"outputs": [output]})
            continue
        outputs[output["name"]] = _from_bytes(output, body[begin : begin + count])
        begin += count
    assert (list(outputs), begin) == (list(OUTPUTS), len(body))
    return outputs


def _from_bytes(output: Mapping[str, Any], data: bytes) -> Any:
    """One binary tensor; text is a length of four bytes and as many bytes."""
    if output["datatype"] != "BYTES":
        return np.frombuffer(data, NUMPY[output["datatype"]]).reshape(output["shape"])
    texts: list[bytes] = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        texts.append(data[4:end])
        data = data[end:]
    return np.array(texts, dtype=object).reshape(output["shape"])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_only_answers_with_tensors_are_compressed(
    service: Service, case: Case, encoding: str
) -> None:
    """tritonclient's asyncio client asks for compressed answers always, and unpacks these alone."""
    headers = {"Accept-Encoding": encoding}
    path = f"/v2/models/{case.model}"
    data = case.pixels.tolist() * 20
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [len(data), *case.pixels.shape[1:]]}
    whole = {"inputs": [{**pixels, "data": data}], "parameters": {"binary_data_output": True}}
    status, found, body = _post(service, f"{path}/infer", json.dumps(whole).encode(), headers)
    assert (status, found["content-encoding"]) == (200, encoding)
    content = zlib.decompress(body, wbits=32 + zlib.MAX_WBITS)
    outputs = _binary_outputs(content, int(found[SIZE_HEADER.lower()]))
    agree(outputs, case.verdicts * 20, case.labels)

    for body in (b"{", _request(case, data)):
        status, found, text = _post(service, f"{path}/infer", body, headers)
        assert status == 400
        assert "content-encoding" not in found
        assert json.loads(text)["error"]
    for way in ("", "/config", "/stats", "/ready"):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
        connection.request("GET", path + way, headers=headers)
        response = connection.getresponse()
        assert response.getheader("content-encoding") is None
        assert json.loads(response.read())["name" if way != "/stats" else "model_stats"]
        connection.close()


def test_bodies_that_are_no_requests(service: Service, case: Case) -> None:
    """Each is refused with a text that is fit for a client; the service goes on."""
    path = f"/v2/models/{case.model}/infer"
    good = _request(case, case.pixels.tolist())
    size = str(len(good))
    zeros = gzip.compress(bytes(64 * 1024 * 1024))
    bodies: list[tuple[bytes, dict[str, str], tuple[int, ...]]] = [
        (b"", {}, (400,)),
        (b"{", {}, (400,)),
        (b"[]", {}, (400,)),
        (b"\xff\xfe", {}, (400,)),
        (b"[" * 100_000, {}, (400,)),
        (b'{"inputs": [7]}', {}, (400,)),
        (b'{"inputs": [{"name": 7, "datatype": [], "shape": "x", "data": null}]}', {}, (400,)),
        (_request(case, [float("nan")] * case.pixels.size), {}, (400,)),
        (_request(case, [1e400] * case.pixels.size), {}, (400,)),
        (_request(case, [10**30] * case.pixels.size), {}, (400,)),
        (_request(case, case.pixels.tolist()[:-1]), {}, (400,)),
        (_request(case, case.pixels.tolist(), parameters=7), {}, (400,)),
        (_request(case, case.pixels.tolist(), parameters={"alpha": {}}), {}, (400,)),
        (_request(case, case.pixels.tolist(), outputs=[{}]), {}, (400,)),
        (good, {SIZE_HEADER: "many"}, (400,)),
        (good, {SIZE_HEADER: "-1"}, (400,)),
        (good, {SIZE_HEADER: str(len(good) + 1)}, (400,)),
        (good + b"\x00", {SIZE_HEADER: size}, (400,)),
        (good, {"Content-Encoding": "br"}, (400, 415, 501)),
        (gzip.compress(good)[:-9], {"Content-Encoding": "gzip"}, (400,)),
        (zeros, {"Content-Encoding": "gzip"}, (413,)),
        (bytes(11 * 1024 * 1024), {SIZE_HEADER: "0"}, (413,)),
    ]
    for body, headers, statuses in bodies:
        status, found, text = _post(service, path, body, headers)
        said = (body[:60], headers, status, text)
        assert status in statuses, said
        assert found["content-type"] == "application/json", said
        assert isinstance(json.loads(text)["error"], str), said
        assert b"Traceback" not in text, said
        assert b"internal" not in text, said
    status, _, text = _post(service, path, good, {SIZE_HEADER: size})
    assert status == 200
    agree(_outputs(json.loads(text)), case.verdicts, case.labels)


def test_unknown_paths_and_verbs(service: Service, case: Case) -> None:
    for method, path, status in (
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/nobody/nothing", 404),
        ("POST", "/v2/health/live", 405),
        ("GET", f"/v2/models/{case.model}/infer", 405),
    ):
        found, text = service.request(method, path)
        assert found == status, (path, text)
        assert "error" in json.loads(text)
