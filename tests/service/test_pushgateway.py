"""Metrics of batch jobs: what a gateway is sent, and that no gateway can disturb a job."""

from __future__ import annotations

import base64
import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import metrics
from service.pushgateway import Gateway, JobMetrics
from service.scorer import Scorer, open_scorer
from service.standing import OUTCOMES
from service.startup import StartupError, free_ports
from service.verdict_table import verdict_schema
from train.data import open_data

Run = Callable[..., tuple[int, str, str]]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

GROUP = {"job": "oodgate-score", "instance": "nightly"}
ROWS = pa.Table.from_pylist([{"id": "a", "error": "no image"}, {"id": "b"}], verdict_schema([]))


@dataclass
class Push:
    """A request that a gateway was sent."""

    method: str
    path: str
    authorization: str | None
    body: str

    @property
    def samples(self) -> Samples:
        return samples_of(self.body)


@dataclass
class FakeGateway:
    """Answers each push with ``status``, once ``open`` is set."""

    url: str = ""
    status: int = 200
    location: str | None = None
    open: threading.Event = field(default_factory=threading.Event)
    pushes: list[Push] = field(default_factory=list)

    def at(self, job: str = "j", instance: str = "i") -> Gateway:
        return Gateway.at(self.url, job, instance)


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, /, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    fake = FakeGateway()
    fake.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            authorization = self.headers["authorization"]
            fake.pushes.append(Push(self.command, unquote(self.path), authorization, body))
            fake.open.wait(30)
            self.send_response(fake.status)
            if fake.location is not None:
                self.send_header("location", fake.location)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_PUT = do_POST  # noqa: N815

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the client had waited long enough
                super().handle()

        def log_message(self, format: str, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        yield fake
        fake.open.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def closed_url() -> str:
    """Nobody listens there."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture(scope="module")
def scorer(bundle_dir: Path) -> Scorer:
    return open_scorer(str(bundle_dir), None, None, True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A hundred digits, and one file that is no image."""
    root = tmp_path / "images"
    root.mkdir()
    for row in islice(open_data("digits:test"), 100):
        (root / Path(row.id).name).write_bytes(row.image)
    (root / "broken.png").write_bytes(b"junk")
    return root


def check(found: Samples, table: pa.Table, model: str, group: dict[str, str]) -> None:
    """What was pushed counts the rows of the table."""
    good = table.filter(pc.is_null(table["error"]))
    outcomes = {"scored": good.num_rows, "error": table.num_rows - good.num_rows}
    for outcome, count in outcomes.items():
        assert value(found, metrics.JOB_IMAGES.name, outcome=outcome, **group) == count
    decisions = Counter(good["decision"].to_pylist())
    for decision, reason in OUTCOMES:
        labels = {"model": model, "decision": decision, "reason": reason, **group}
        assert value(found, metrics.DECISIONS.name, **labels) == decisions[decision]
    for label, count in Counter(good["class_label"].to_pylist()).items():
        labels = {"model": model, "class_label": label, **group}
        assert value(found, metrics.PREDICTIONS.name, **labels) == count
    for spec in (metrics.P_VALUE, metrics.CONFIDENCE):
        assert value(found, f"{spec.name}_count", model=model, **group) == good.num_rows
    below = sum(p <= 0.1 for p in good["p_value"].to_pylist())
    assert value(found, f"{metrics.P_VALUE.name}_bucket", model=model, le="0.1", **group) == below
    version = good["model_version"][0].as_py()
    assert value(found, metrics.MODEL_INFO.name, name=model, version=version, **group) == 1
    threshold, size = (good[name][0].as_py() for name in ("threshold", "reference_size"))
    assert value(found, metrics.REJECTION_THRESHOLD.name, model=model, **group) == threshold
    assert value(found, metrics.REFERENCE_IMAGES.name, model=model, **group) == size
    age = time.time() - value(found, metrics.JOB_SUCCESS.name, **group)
    assert 0 <= age < 60


@pytest.mark.parametrize("alpha", [(), ("--alpha", 0.2)])
def test_what_is_pushed_counts_the_rows_of_the_table(
    oodgate: Run,
    bundle_dir: Path,
    images: Path,
    tmp_path: Path,
    gateway: FakeGateway,
    alpha: tuple[object, ...],
) -> None:
    out = tmp_path / "out"
    words = ("score", bundle_dir, "--data", images, "--out", out, "--local", *alpha)
    code, _, err = oodgate(*words, "--metrics-pushgateway", gateway.url)
    assert code == 0
    assert "warning" not in err
    first, *_, last = gateway.pushes
    check(last.samples, pq.read_table(out), "digits", {})
    assert {push.method for push in gateway.pushes} == {"POST"}
    assert metrics.JOB_SUCCESS.name not in first.body
    assert value(first.samples, metrics.JOB_IMAGES.name, outcome="scored") == 0
    named = {family.name for family in text_string_to_metric_families(last.body)}
    assert not {"oodgate_requests", "oodgate_shed", "oodgate_queue_images"} & named


def test_a_bare_checkpoint_has_counts_without_verdicts(
    oodgate: Run, checkpoint_dir: Path, images: Path, tmp_path: Path, gateway: FakeGateway
) -> None:
    words = ("score", checkpoint_dir, "--data", images, "--out", tmp_path / "out", "--local")
    assert oodgate(*words, "--metrics-pushgateway", gateway.url)[0] == 0
    found = gateway.pushes[-1].samples
    assert value(found, metrics.JOB_IMAGES.name, outcome="scored") == 100
    assert {name for name, _ in found} == {metrics.JOB_IMAGES.name, metrics.JOB_SUCCESS.name}


def test_jobs_are_kept_apart(
    oodgate: Run, bundle_dir: Path, images: Path, tmp_path: Path, gateway: FakeGateway
) -> None:
    words: tuple[object, ...] = ("score", bundle_dir, "--data", images, "--local")
    words += ("--metrics-pushgateway", f"{gateway.url}/below/")
    assert oodgate(*words, "--out", tmp_path / "one")[0] == 0
    path, _, instance = gateway.pushes[-1].path.rpartition("/")
    assert path == "/below/metrics/job/oodgate-score/instance@base64"
    expected = f"{socket.gethostname()}:{tmp_path / 'one'}"
    assert base64.urlsafe_b64decode(instance).decode() == expected
    named = ("--metrics-job", "nightly", "--metrics-instance", "ü%")
    assert oodgate(*words, *named, "--out", tmp_path / "two")[0] == 0
    assert gateway.pushes[-1].path == "/below/metrics/job/nightly/instance/ü%"


def test_credentials_are_sent_and_never_said(
    oodgate: Run,
    bundle_dir: Path,
    images: Path,
    tmp_path: Path,
    gateway: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway.status = 401
    url = gateway.url.replace("://", "://me:s%2Fcr%40t@")
    monkeypatch.setenv("OODGATE_METRICS_PUSHGATEWAY", url)
    words = ("score", bundle_dir, "--data", images, "--out", tmp_path / "out", "--local")
    code, out, err = oodgate(*words)
    assert code == 0
    expected = base64.b64encode(b"me:s/cr@t").decode()
    assert {push.authorization for push in gateway.pushes} == {f"Basic {expected}"}
    assert f"warning: metrics did not reach {gateway.url}: HTTP Error 401: Unauthorized" in err
    for secret in ("s%2Fcr%40t", "s/cr@t", "me:", expected):
        assert secret not in out + err
        assert secret not in repr(Gateway.at(url, "j", "i"))


BAD_URLS = (
    "",
    "gateway:9091",
    "ftp://gateway:9091",
    "http://",
    "http://:9091",
    "http://gateway:0",
    "http://gateway:port",
    "http://gateway:99999",
    "http://[::1",
    "http://gate way:9091",
    "http://gateway:9091\n",
    "http://gateway:9091/?a=b",
    "http://gateway:9091/#a",
    "http://me:secret/x@gateway:9091",
    "http://me:12/secret@gateway:9091",
    "http://me:secret?@gateway:9091",
    "http://me:secret@gateway:port",
)


@pytest.mark.parametrize("url", BAD_URLS)
def test_what_is_no_url_is_refused_before_any_work(
    oodgate: Run, bundle_dir: Path, tmp_path: Path, url: str
) -> None:
    out = tmp_path / "out"
    words = ("score", bundle_dir, "--data", "digits:test", "--out", out, "--local")
    code, _, err = oodgate(*words, "--metrics-pushgateway", url)
    assert code == 2
    assert err.startswith("error: --metrics-pushgateway ")
    assert "expected http://HOST:PORT" in err
    assert "secret" not in err
    assert not out.exists()


@pytest.mark.parametrize(("job", "instance"), [("", "i"), ("j", " ")])
def test_an_empty_name_is_refused(job: str, instance: str) -> None:
    with pytest.raises(StartupError, match="is empty: expected a name"):
        Gateway.at("http://gateway:9091", job, instance)


def test_without_the_serve_extra_it_says_what_to_install(
    oodgate: Run, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "service.pushgateway")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    words = ("score", bundle_dir, "--data", "digits:test", "--out", tmp_path / "out", "--local")
    code, _, err = oodgate(*words, "--metrics-pushgateway", "http://gateway:9091")
    assert code == 2
    assert err == (
        "error: --metrics-pushgateway needs the package prometheus_client: install oodgate with "
        "its 'serve' extra\n"
    )


def test_an_unreachable_gateway_is_said_once(
    oodgate: Run, bundle_dir: Path, images: Path, tmp_path: Path, closed_url: str
) -> None:
    out = tmp_path / "out"
    words = ("score", bundle_dir, "--data", images, "--out", out, "--local")
    code, said, err = oodgate(*words, "--metrics-pushgateway", closed_url)
    assert code == 0
    assert f"{out}: 101 rows: " in said
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: metrics did not reach {closed_url}: [Errno 111]")
    assert pq.read_table(out).num_rows == 101


def test_a_gateway_that_hangs_holds_up_nothing_but_the_end(
    scorer: Scorer, gateway: FakeGateway
) -> None:
    gateway.open.clear()
    said: list[str] = []
    job = JobMetrics(gateway.at(), scorer, said.append, period_s=0.01, timeout_s=0.5)
    with job:
        began = time.monotonic()
        for _ in range(100):
            job.count(ROWS)
        assert time.monotonic() - began < 0.4
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert len(said) == 1
    assert "expected a Pushgateway that answers within 0.5 s" in said[0]


def test_a_gateway_that_drips_holds_up_the_end_for_a_bounded_time(scorer: Scorer) -> None:
    """Each byte comes in time, the answer never."""
    said: list[str] = []
    gone = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while not gone.wait(0.05):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        job = JobMetrics(Gateway.at(url, "j", "i"), scorer, said.append, timeout_s=0.25)
        with job:
            began = time.monotonic()
        assert 0.4 < time.monotonic() - began < 2
        assert len(said) == 1
        assert "the last push has not ended in time" in said[0]
        gone.set()
        thread.join()
    job._thread.join(5)
    assert not job._thread.is_alive()


@pytest.mark.parametrize("status", [302, 307, 400, 500])
def test_whatever_is_no_success_is_a_failure(
    scorer: Scorer, gateway: FakeGateway, status: int
) -> None:
    gateway.status, gateway.location = status, f"{gateway.url}/elsewhere"
    said: list[str] = []
    with JobMetrics(gateway.at(), scorer, said.append) as job:
        job.count(ROWS)
    assert len(said) == 1
    assert f"HTTP Error {status}" in said[0]
    assert {push.path for push in gateway.pushes} == {"/metrics/job/j/instance/i"}


def test_it_is_pushed_while_the_job_runs(scorer: Scorer, gateway: FakeGateway) -> None:
    with JobMetrics(gateway.at(), scorer, pytest.fail, period_s=0.02) as job:
        for _ in range(3):
            seen = len(gateway.pushes)
            job.count(ROWS)
            deadline = time.monotonic() + 10
            while len(gateway.pushes) < seen + 2 and time.monotonic() < deadline:
                time.sleep(0.005)
    counts = [value(p.samples, metrics.JOB_IMAGES.name, outcome="error") for p in gateway.pushes]
    assert counts == sorted(counts)
    assert set(counts) >= {1, 2, 3}
    assert counts[-1] == 3


def test_a_job_that_failed_pushes_its_counts_without_success(
    scorer: Scorer, gateway: FakeGateway
) -> None:
    def fail() -> None:
        with JobMetrics(gateway.at(), scorer, pytest.fail) as job:
            job.count(ROWS)
            raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        fail()
    found = gateway.pushes[-1].samples
    assert value(found, metrics.JOB_IMAGES.name, outcome="error") == 1
    assert metrics.JOB_SUCCESS.name not in gateway.pushes[-1].body


@pytest.fixture
def pushgateway() -> Iterator[str]:
    """The real one, on loopback."""
    program = shutil.which("prometheus-pushgateway")
    if program is None:
        pytest.skip("no prometheus-pushgateway: apt-get install prometheus-pushgateway")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command = [program, f"--web.listen-address={address}", "--persistence.file="]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while not answers(f"http://{address}/-/ready"):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"http://{address}"
        finally:
            process.terminate()


def fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        return str(response.read().decode())


def answers(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


@pytest.mark.integration
def test_the_real_pushgateway(
    oodgate: Run, bundle_dir: Path, images: Path, tmp_path: Path, pushgateway: str
) -> None:
    words: tuple[object, ...] = ("score", bundle_dir, "--data", images, "--local")
    words += ("--metrics-pushgateway", pushgateway)
    assert oodgate(*words, "--out", tmp_path / "one")[0] == 0
    nightly = (*words, "--metrics-instance", "nightly")
    assert oodgate(*nightly, "--out", tmp_path / "two")[0] == 0
    (images / "broken.png").unlink()
    code, _, err = oodgate(*nightly, "--out", tmp_path / "three")
    assert code == 0
    assert "warning" not in err
    found = samples_of(fetch(f"{pushgateway}/metrics"))
    first = {"job": "oodgate-score", "instance": f"{socket.gethostname()}:{tmp_path / 'one'}"}
    check(found, pq.read_table(tmp_path / "one"), "digits", first)
    check(found, pq.read_table(tmp_path / "three"), "digits", GROUP)  # in place of the second
    assert value(found, metrics.JOB_IMAGES.name, outcome="error", **GROUP) == 0
    groups = {labels for name, labels in found if name == "push_time_seconds"}
    assert groups == {frozenset(first.items()), frozenset(GROUP.items())}
    failures = [v for (name, _), v in found.items() if name == "push_failure_time_seconds"]
    assert failures == [0, 0]
