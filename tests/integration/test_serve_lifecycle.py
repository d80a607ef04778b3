"""Start and end: what is refused at once, overload, draining, and that nothing is left."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from service import processes

if TYPE_CHECKING:
    from tests.integration.running import Service

pytestmark = pytest.mark.integration


def test_a_busy_port_is_refused_by_name(digits_bundle: Path, refusal: Callable[..., str]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = str(holder.getsockname()[1])
        assert f"port {busy}" in refusal(digits_bundle, "--port", busy)
        assert f"port {busy}" in refusal(digits_bundle, "--grpc-port", busy)


def test_another_host_is_refused(digits_bundle: Path, refusal: Callable[..., str]) -> None:
    assert "--insecure" in refusal(digits_bundle, "--host", "0.0.0.0")


def test_a_damaged_bundle_is_refused_by_file(
    digits_bundle: Path, refusal: Callable[..., str], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(digits_bundle, damaged)
    weights = damaged / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "weights.safetensors" in refusal(damaged)


@pytest.fixture
def narrow_service(start_service: Callable[..., Service]) -> Iterator[Service]:
    """A service with few places."""
    running = start_service(options={"max_queued_requests": 3})
    try:
        running.wait_until_announced()
        yield running
    finally:
        running.close()


#: More than HAProxy waits for; what stands behind the end of an image is not looked at.
BEHIND = bytes(200_000)


@contextlib.contextmanager
def _stalled(service: Service, image: bytes) -> Iterator[socket.socket]:
    """A request whose last byte has not been sent."""
    body = image + BEHIND
    head = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=180) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        yield connection


def _answer(connection: socket.socket) -> str:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received.decode()


def test_overload_then_drain_then_nothing_is_left(
    narrow_service: Service, images: Mapping[str, bytes]
) -> None:
    service, image = narrow_service, images["0"]
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(_stalled(service, image)) for _ in range(3)]
        service.wait_until(lambda: service.classify(image)[0] == 429, "the places are taken")
        _check_refusals(service, image)
        started = service.descendants()
        assert started
        service.process.send_signal(signal.SIGTERM)
        service.wait_until(lambda: _refuses(service), "new requests are refused")
        for connection in stalled:
            connection.sendall(BEHIND[-1:])
        for connection in stalled:
            answer = _answer(connection)
            assert answer.startswith("HTTP/1.1 200"), answer
            assert json.loads(answer.partition("\r\n\r\n")[2])["class"]["label"]
    assert service.process.wait(180) == 0, service.text()
    service.wait_until(lambda: not any(map(processes.alive, started)), "all have gone")
    for port in (service.port, service.grpc_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert not list(service.folder.glob("ood-*"))
    assert "Traceback" not in service.text()


def _check_refusals(service: Service, image: bytes) -> None:
    """Of a service whose places by HTTP are taken."""
    status, found = service.classify(image)
    assert (status, found["code"]) == (429, "overloaded")
    assert service.request("GET", "/healthz")[0] == 200
    assert service.classify_grpc(image)[0] == grpc.StatusCode.OK  # they have places of their own
    with _open_streams(service, 3):
        busy = (grpc.StatusCode.RESOURCE_EXHAUSTED, found["error"])
        service.wait_until(lambda: service.classify_grpc(image) == busy, "so are these places")
    service.wait_until(lambda: _shed(service) >= 3, "HAProxy's refusals are counted")


def _shed(service: Service) -> float:
    """What ``/metrics`` says of it; no replica has refused anything."""
    _, text = service.request("GET", "/metrics")
    found = [line.split() for line in text.splitlines() if line.startswith("oodgate_shed_total")]
    return sum(float(value) for _, value in found)


@contextlib.contextmanager
def _open_streams(service: Service, count: int) -> Iterator[None]:
    """Calls over gRPC that have begun and say nothing."""
    ended = threading.Event()

    def silent() -> Iterator[bytes]:
        ended.wait(180)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        open_stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        calls = [open_stream(silent()) for _ in range(count)]
        yield
        ended.set()
        for call in calls:
            call.cancel()


def _refuses(service: Service) -> bool:
    try:
        return service.request("GET", "/readyz")[0] != 200
    except OSError:
        return True


def test_ctrl_c_while_it_starts(start_service: Callable[..., Service]) -> None:
    service = start_service("--no-haproxy")
    try:
        service.wait_until(lambda: len(service.descendants()) >= 3, "Ray is starting")
        assert service.stop(signal.SIGINT) == 0, service.text()
        assert not any(map(processes.alive, service.descendants()))
        assert "Traceback" not in service.text()
    finally:
        service.close()
