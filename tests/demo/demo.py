"""The whole road in a few minutes: train, calibrate, serve, ask over HTTP and gRPC, stop.

Run by ``make demo``. It uses scikit-learn's digits, which come with the package: nothing is
downloaded. Images go by turns over HTTP and gRPC. What was measured is written beside the bundle.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from calibration.conformal import attained_rank, beta_binomial_interval
from service.protos import classifier_pb2, classifier_pb2_grpc
from service.startup import free_ports
from tests.demo.strangers import Grey, held_out_digits, png, strangers

ROOT = Path(__file__).resolve().parents[2]
OODGATE = Path(sys.executable).with_name("oodgate")
START_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the demo looks at in an answer."""

    class_index: int
    p_value: float
    decision: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    images: int
    accept: float
    abstain: float
    reject: float
    at_alpha: int
    median_p: float
    accuracy: float | None


class Client:
    """Asks by turns over HTTP and gRPC, on one connection each."""

    def __init__(self, port: int, grpc_port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
        self._stub = classifier_pb2_grpc.ClassifierStub(self._channel)
        self._asked = 0

    def ask(self, image: bytes) -> Verdict:
        """The verdict on one encoded image."""
        self._asked += 1
        return self.over_grpc(image) if self._asked % 2 else _verdict(self.over_http(image))

    def over_http(self, image: bytes, query: str = "") -> dict[str, Any]:
        """The whole JSON answer."""
        self._http.request("POST", f"/v1/classify{query}", image, {"Content-Type": "image/png"})
        response = self._http.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"HTTP {response.status}: {body.decode()}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def over_grpc(self, image: bytes) -> Verdict:
        """The same question in the other protocol."""
        reply = self._stub.Classify(classifier_pb2.ClassifyRequest(image=image), timeout=60)
        index = getattr(reply, "class").index
        return Verdict(class_index=index, p_value=reply.p_value, decision=reply.decision)

    def close(self) -> None:
        """Close both connections."""
        self._http.close()
        self._channel.close()


def _verdict(answer: dict[str, Any]) -> Verdict:
    return Verdict(
        class_index=answer["class"]["index"],
        p_value=answer["p_value"],
        decision=answer["decision"],
    )


def run(*words: str) -> None:
    """One oodgate command, shown as a user would type it."""
    say(f"\n$ oodgate {' '.join(words)}")
    subprocess.run([OODGATE, *words], check=True, cwd=ROOT)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def served(bundle: Path, port: int, grpc_port: int) -> Iterator[Client]:
    """The service in a process of its own, ended by SIGTERM; a client once it is ready."""
    words = ["serve", str(bundle), "--port", str(port), "--grpc-port", str(grpc_port)]
    say(f"\n$ oodgate {' '.join(words)}")
    process = subprocess.Popen([OODGATE, *words], cwd=ROOT)
    try:
        wait_until_ready(process, port)
        client = Client(port, grpc_port)
        yield client
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        say(f"service stopped, exit status {process.returncode}")


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the service ended with status {process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise SystemExit(f"the service was not ready after {START_S:.0f} s")


def measure(client: Client, name: str, images: Grey, alpha: float, labels: list[int] | None) -> Row:
    """Ask about every image of a set."""
    verdicts = [client.ask(png(image)) for image in images]
    shares = {
        decision: float(np.mean([v.decision == decision for v in verdicts]))
        for decision in ("accept", "abstain", "reject")
    }
    correct = None
    if labels is not None:
        correct = float(np.mean([v.class_index for v in verdicts] == np.array(labels)))
    return Row(
        name=name,
        images=len(verdicts),
        **shares,
        at_alpha=sum(v.p_value <= alpha for v in verdicts),
        median_p=float(np.median([v.p_value for v in verdicts])),
        accuracy=correct,
    )


def table(rows: list[Row]) -> str:
    """The rows, for people."""
    head = f"{'images':<20} {'n':>4} {'accept':>8} {'abstain':>8} {'reject':>8} {'median p':>9}"
    lines = [
        f"{row.name:<20} {row.images:>4} {row.accept:>8.1%} {row.abstain:>8.1%} "
        f"{row.reject:>8.1%} {row.median_p:>9.4f}"
        for row in rows
    ]
    return "\n".join([head, "-" * len(head), *lines])


def summary(digits: Row, example: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    """Whether the promise held on held-out digits, in words, and the interval."""
    n, alpha = example["reference_size"], example["alpha"]
    low, high = beta_binomial_interval(digits.images, attained_rank(n, alpha), n, 0.99)
    inside = "inside" if low <= digits.at_alpha <= high else "OUTSIDE"
    text = (
        f"held-out digits: accuracy {digits.accuracy:.1%}; p <= {alpha} for {digits.at_alpha} of "
        f"{digits.images}, {inside} the 99% interval {low} to {high} that {n} reference rows allow"
    )
    return text, (low, high)


def main() -> None:
    began = time.monotonic()
    (ROOT / "runs").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=ROOT / "runs"))
    bundle = folder / "bundle"
    port, grpc_port = free_ports(2)
    try:
        run("train", "--data", "digits", "--recipe", "digits", "--out", str(folder / "checkpoint"))
        run("calibrate", str(folder / "checkpoint"), "--data", "digits", "--out", str(bundle))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with served(bundle, port, grpc_port) as client:
        digits, labels = held_out_digits()
        example = client.over_http(png(digits[0]), "?top_k=3")
        rows = [measure(client, "held-out digits", digits, example["alpha"], labels)]
        for name, images in strangers(digits).items():
            rows.append(measure(client, name, images, example["alpha"], None))
    text, interval = summary(rows[0], example)
    say(f"\nOne answer:\n{json.dumps(example, indent=2)}\n\n{table(rows)}\n\n{text}")
    say(f"\n{time.monotonic() - began:.0f} s in all. {next_steps(bundle)}")
    figures = {"rows": [asdict(row) for row in rows], "interval": interval}
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


def next_steps(bundle: Path) -> str:
    name = bundle.relative_to(ROOT)
    return (
        "What to try next:\n"
        f"  .venv/bin/oodgate inspect {name}\n"
        f"  .venv/bin/oodgate score {name} --data digits:test --out runs/verdicts --local\n"
        f"  .venv/bin/oodgate serve {name}     then open http://127.0.0.1:8000/docs\n"
        "  your own images: a folder with one sub-folder a class as --data (see README)"
    )


if __name__ == "__main__":
    main()
