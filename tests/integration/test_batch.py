"""``oodgate score`` on Ray: one table however it is scored, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
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


def test_on_a_ray_of_this_machine(
    digits_bundle: Path, data: Path, undisturbed: pa.Table, tmp_path: Path
) -> None:
    text = score(digits_bundle, data, tmp_path / "out", "--workers", "1-2", "--fdr", "0.1")
    check(tmp_path / "out", undisturbed)
    assert f"{ROWS:,} rows" in text
    again = score(digits_bundle, data, tmp_path / "out", "--workers", "1-2", "--fdr", "0.1")
    assert "nothing to do" in again


def test_on_a_cluster_that_loses_a_worker_a_node_and_the_driver(
    cluster: Cluster, digits_bundle: Path, data: Path, undisturbed: pa.Table, tmp_path: Path
) -> None:
    out, env = tmp_path / "out", cluster.environment()
    words = (digits_bundle, data, out, "--address", cluster.address, "--workers", "1-2")
    flags = ("--fdr", "0.1")
    with (tmp_path / "output").open("wb") as output:
        driver = subprocess.Popen(
            command(*words, *flags), cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            staged = out / "_scored"
            Service.wait_until(
                lambda: (staged / "part-00000.parquet").exists() or driver.poll() is not None,
                "half is scored",
            )
            assert driver.poll() is None, (tmp_path / "output").read_text()
        finally:
            driver.kill()
            driver.wait()
    assert pq.ParquetFile(staged / "part-00000.parquet").metadata.num_rows == ROWS // 2
    assert not list(out.glob("*.parquet"))
    with (tmp_path / "output").open("wb") as output:
        driver = subprocess.Popen(
            command(*words, *flags), cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            Service.wait_until(
                lambda: bool(scoring(cluster)) or driver.poll() is not None, "an actor scores"
            )
            for process in scoring(cluster)[:1]:
                os.kill(process, signal.SIGKILL)
            Service.wait_until(
                lambda: bool(scoring(cluster)) or driver.poll() is not None, "another does"
            )
            cluster.kill(1)
            assert driver.wait(4 * DEADLINE_S) == 0, (tmp_path / "output").read_text()
        finally:
            driver.kill()
            driver.wait()
    check(out, undisturbed)
    record = json.loads((out / "_job.json").read_text())
    assert (record["state"], record["sittings"]) == ("finished", 2)


def scoring(cluster: Cluster) -> list[int]:
    """Process ids of actors that score."""
    below = {p for node in cluster.nodes for p in processes.descendants(node.pid)}
    found = []
    for process in below:
        try:
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"MapWorker" in line:
            found.append(process.pid)
    return found
