"""``oodgate score`` on Ray: one table however it is scored, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service import processes
from tests.integration.ray_nodes import Cluster
from tests.integration.running import COMMAND, DEADLINE_S, ROOT, Service, environment
from train.data import open_data

pytestmark = pytest.mark.integration

ROWS, GROUP = 20_000, 500


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits again and again, every thousandth no image, without names of their own."""
    images = [row.image for row in open_data("digits:test")]
    labels = [row.label for row in open_data("digits:test")]
    every = range(ROWS)
    table = pa.table(
        {
            "image": pa.array([images[i % len(images)] if i % 1000 else b"junk" for i in every]),
            "label": pa.array([labels[i % len(images)] for i in every], pa.int64()),
        }
    )
    path = tmp_path_factory.mktemp("data") / "many.parquet"
    pq.write_table(table, path, row_group_size=GROUP)
    return path


def command(bundle: Path, data: Path, out: Path, *flags: str) -> list[str]:
    return [*COMMAND, "score", str(bundle), "--data", str(data), "--out", str(out), *flags]


def score(*words: object, env: dict[str, str] | None = None) -> str:
    """Until its end; what it printed."""
    done = subprocess.run(
        command(*words),  # type: ignore[arg-type]
        cwd=ROOT,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    text: str = done.stdout
    return text


@pytest.fixture(scope="module")
def undisturbed(
    digits_bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    """What one process says."""
    out = tmp_path_factory.mktemp("local") / "out"
    score(digits_bundle, data, out, "--local", "--fdr", "0.1")
    return pq.read_table(out)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path: those of Ray's sockets have to be."""
    with tempfile.TemporaryDirectory(prefix="o", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    nodes = Cluster(workers=2)
    yield nodes
    nodes.close()


def check(out: Path, expected: pa.Table) -> None:
    found = pq.read_table(out)
    assert found.num_rows == ROWS
    assert len(set(found["id"].to_pylist())) == ROWS
    assert found.equals(expected)
    assert found["error"].null_count == ROWS - ROWS // 1000
    names = {path.name for path in out.iterdir()}
    assert names == {"part-00000.parquet", "part-00001.parquet", "_job.json", "_report"}


@contextlib.contextmanager
def driving(
    words: list[str], output: Path, env: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A job that runs; killed at the end where it still does."""
    with output.open("wb") as file:
        driver = subprocess.Popen(words, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def test_on_a_ray_of_this_machine_that_is_asked_to_end(
    digits_bundle: Path, data: Path, undisturbed: pa.Table, tmp_path: Path, temporary: Path
) -> None:
    out, output = tmp_path / "out", tmp_path / "output"
    words = (digits_bundle, data, out, "--workers", "1-2", "--fdr", "0.1")
    with driving(command(*words), output, environment(TMPDIR=str(temporary))) as driver:
        wait_for_half(out / "_scored", driver, output)
        started = processes.descendants(driver.pid)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(DEADLINE_S) == 130, output.read_text()
    assert "the same command goes on" in output.read_text()
    Service.wait_until(lambda: not any(map(processes.alive, started)), "all have gone")
    assert not list(temporary.glob("ood-*"))
    text = score(*words)
    check(out, undisturbed)
    assert f"{ROWS:,} rows" in text
    assert "nothing to do" in score(*words)


def wait_for_half(staged: Path, driver: subprocess.Popen[bytes], output: Path) -> None:
    """Until the first of two parts is there."""
    first = staged / "part-00000.parquet"
    Service.wait_until(lambda: first.exists() or driver.poll() is not None, "half is scored")
    assert driver.poll() is None, output.read_text()


def test_on_a_cluster_that_loses_a_worker_a_node_and_the_driver(
    cluster: Cluster, digits_bundle: Path, data: Path, undisturbed: pa.Table, tmp_path: Path
) -> None:
    out, output, env = tmp_path / "out", tmp_path / "output", cluster.environment()
    where = ("--address", cluster.address, "--workers", "1-2", "--fdr", "0.1")
    words = command(digits_bundle, data, out, *where)
    with driving(words, output, env) as driver:
        wait_for_half(out / "_scored", driver, output)
    half = pq.ParquetFile(out / "_scored" / "part-00000.parquet")
    assert half.metadata.num_rows == ROWS // 2
    assert not list(out.glob("*.parquet"))
    Service.wait_until(lambda: not scoring(cluster), "actors of the killed driver have gone")
    with driving(words, output, env) as driver:

        def scored_by(others: set[int]) -> bool:
            return bool(scoring(cluster) - others) or driver.poll() is not None

        Service.wait_until(lambda: scored_by(set()), "an actor scores")
        killed = scoring(cluster)
        assert killed
        assert driver.poll() is None, output.read_text()
        for process in killed:
            os.kill(process, signal.SIGKILL)
        Service.wait_until(lambda: scored_by(killed), "another does")
        assert driver.poll() is None, output.read_text()
        cluster.kill(1)
        assert driver.wait(4 * DEADLINE_S) == 0, output.read_text()
    check(out, undisturbed)
    record = json.loads((out / "_job.json").read_text())
    assert (record["state"], record["sittings"]) == ("finished", 2)


def test_by_ray_client(
    cluster: Cluster, digits_bundle: Path, data: Path, undisturbed: pa.Table, tmp_path: Path
) -> None:
    where = ("--address", cluster.client, "--workers", "2", "--fdr", "0.1")
    score(digits_bundle, data, tmp_path / "out", *where, env=cluster.environment())
    check(tmp_path / "out", undisturbed)


def scoring(cluster: Cluster) -> set[int]:
    """Process ids of actors that score."""
    below = {p for node in cluster.nodes for p in processes.descendants(node.pid)}
    found = set()
    for process in below:
        try:
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"MapWorker" in line:
            found.add(process.pid)
    return found
