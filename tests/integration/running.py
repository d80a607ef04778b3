"""One running ``oodgate serve`` for tests: a subprocess on free loopback ports, ended by its id."""

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
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


def serving(bundle: Path, *flags: str) -> Service:
    """Start ``oodgate serve BUNDLE FLAGS``, on ports that were free."""
    port, grpc_port = free_ports(2)
    command = [*COMMAND, "serve", str(bundle), *flags]
    command += ["--port", str(port), "--grpc-port", str(grpc_port)]
    return Service(command, port, grpc_port)


class Service:
    """One running ``oodgate serve``."""

    def __init__(self, command: Sequence[str], port: int, grpc_port: int) -> None:
        self.port, self.grpc_port = port, grpc_port
        #: Requests so far, and the images that came in one with others, but for its first.
        self.asked, self.companions = 0, 0
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
                env=self._environment(),
            )
        self._started: set[processes.Process] = set()

    def _environment(self) -> dict[str, str]:
        """The admin key and all else that is temporary is in the service's own folder."""
        return environment(TMPDIR=str(self.folder), XDG_RUNTIME_DIR="")

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

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``oodgate deploy ARGUMENTS``, as the user who started the service."""
        return subprocess.run(
            [*COMMAND, "deploy", *arguments, "--url", f"http://127.0.0.1:{self.port}"],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
        )

    def admin_key(self) -> str:
        """What ``oodgate deploy`` finds in the service's folder."""
        return next(self.folder.glob(f"oodgate-*/{self.port}.key")).read_text().strip()

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
