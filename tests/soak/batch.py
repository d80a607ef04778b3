"""A batch job of a million rows: ``python -m tests.soak.batch --data DATA``; memory, rows and ids.

The images of DATA again and again, in many tables. The driver and the actors are looked at every
few seconds; flat is a largest resident memory in the last half of the job that is at most a
twentieth above that of the second quarter. Its exit status is 1 where something is not as it must
be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service import processes
from tests.bench.record import Record, setting
from tests.integration.running import COMMAND, ROOT, environment
from tests.soak.memory import resident_mb
from train.data import open_data

ROWS, TABLE_ROWS, EVERY_S = 1_000_000, 50_000, 5.0

#: How far memory may grow.
FLAT = 1.05


@dataclass
class Outcome:
    """What the job came to; memory in MB by process, in the order of time."""

    rows: int
    seconds: float = 0.0
    memory: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def grown(self, name: str) -> float:
        """Largest memory of the last half over that of the second quarter."""
        values = self.memory[name]
        n = len(values)
        return max(values[n // 2 :]) / max(values[n // 4 : n // 2])

    def to_dict(self) -> dict[str, Any]:
        grown = {name: self.grown(name) for name in self.memory}
        return {"rows": self.rows, "seconds": self.seconds, "grown": grown, "faults": self.faults}

    def __str__(self) -> str:
        grown = ", ".join(
            f"{name} {values[-1]:.0f} MB ({self.grown(name) - 1:+.1%})"
            for name, values in self.memory.items()
        )
        rate = self.rows / self.seconds
        return f"{self.rows:,} rows in {self.seconds:.0f} s ({rate:.0f}/s); {grown}; {self.faults}"


def run(bundle: str, data: Path, out: Path, outcome: Outcome) -> None:
    """The job, with an eye on its processes."""
    words = ["score", bundle, "--data", str(data), "--out", str(out), "--no-labels"]
    began, output = time.monotonic(), out.with_name("output")
    with output.open("wb") as file:
        driver = subprocess.Popen(
            [*COMMAND, *words, "--workers", "2", "--no-statistics"],
            cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    while driver.poll() is None:
        look(driver.pid, outcome)
        time.sleep(EVERY_S)
    outcome.seconds = time.monotonic() - began
    if driver.returncode:
        outcome.faults.append(f"exit status {driver.returncode}: {output.read_text()[-2000:]}")


def look(driver: int, outcome: Outcome) -> None:
    """Note the memory of the driver and of the actors that score."""
    found = {"driver": processes.Process(driver, 0)}
    for process in processes.descendants(driver):
        try:
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"MapWorker" in line:
            found[f"actor {process.pid}"] = process
    for name, one in found.items():
        if size := resident_mb(one):
            outcome.memory.setdefault(name, []).append(size)


def check(out: Path, outcome: Outcome) -> None:
    """Rows and ids of the table, and whether memory was flat."""
    ids = pa.chunked_array(
        [c for path in sorted(out.glob("*.parquet")) for c in pq.read_table(path)["id"].chunks]
    )
    if len(ids) != outcome.rows:
        outcome.faults.append(f"{len(ids):,} rows, expected {outcome.rows:,}")
    if len(ids.unique()) != len(ids):
        outcome.faults.append("ids that occur twice")
    for name in outcome.memory:
        if outcome.grown(name) > FLAT:
            outcome.faults.append(f"{name} grew to {outcome.grown(name):.3f} times")


def main() -> None:
    asked = _arguments()
    outcome = Outcome(rows=asked.rows)
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "out"
        _repeat(asked.data, data, asked.rows)
        run(asked.bundle, data, out, outcome)
        if not outcome.faults:
            check(out, outcome)
    made = setting(quick=False, seed=0, pace=None) | {"bundle": asked.bundle}
    Record(asked.out).measure("batch", made, [outcome])
    sys.exit(1 if outcome.faults else 0)


def _repeat(data: str, folder: Path, rows: int) -> None:
    images = [row.image for row in open_data(data)]
    folder.mkdir()
    for start in range(0, rows, TABLE_ROWS):
        numbers = range(start, min(start + TABLE_ROWS, rows))
        table = pa.table({"image": [images[i % len(images)] for i in numbers]})
        path = folder / f"{start // TABLE_ROWS:04d}.parquet"
        pq.write_table(table, path, row_group_size=1000)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.batch", description=__doc__)
    parser.add_argument("--bundle", default="fashion-mnist")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=Path, default=Path("runs/soak.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
