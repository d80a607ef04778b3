"""What a batch job on Ray costs and gains: ``python -m tests.bench.batch --test DATA``.

Images a second are those of a job that runs: from its first blocks of rows to its last row, since
Ray's start and that of its actors are seconds of a night; the start has a row of its own.
A figure is the median of interleaved rounds with its range. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

from model.image import UInt8Array, decode
from service.batch.on_ray import scored_on_ray
from service.batch.parts import Position
from service.batch.ray_start import Cluster, Starting
from service.catalog import find_bundle
from service.scorer import Scorer, open_scorer
from tests.bench.pairs import Spread
from tests.bench.record import Record, setting
from tests.bench.service.raw import generated_images
from train.chunks import chunks_of
from train.data import open_data

DEFAULT_OUT = Path("runs/bench/batch.json")
SIZE = 64

#: Starts and times ``oodgate score`` until its first row is there.
_START = """
import sys, time
began = time.time() - float(sys.argv.pop(1))
from service.batch import parts
def first(self, scored):
    print(f"{began + time.perf_counter() - clock:.2f}", flush=True)
    import os; os.kill(os.getpid(), 2)
    raise KeyboardInterrupt
clock = time.perf_counter()
parts.PartWriter.add = first
from service.cli import main
main()
"""


@dataclass(frozen=True)
class Figure:
    """What was measured, in words, with the value of each round."""

    title: str
    rounds: list[float]

    def __str__(self) -> str:
        return f"{self.title}: {Spread.of(self.rounds)}"

    def to_dict(self) -> dict[str, Any]:
        return {"title": self.title, "rounds": self.rounds}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A scorer and what it scores: a table, and its images decoded."""

    scorer: Scorer
    table: Path
    pixels: UInt8Array

    def bare(self) -> float:
        """Images a second of the Predictor alone."""
        predictor = self.scorer.predictor
        assert predictor is not None
        began = time.perf_counter()
        for i in range(0, len(self.pixels), SIZE):
            predictor(self.pixels[i : i + SIZE])
        return len(self.pixels) / (time.perf_counter() - began)

    def on_ray(self, workers: int) -> float:
        """Images a second of a job with so many actors."""
        chunks, cluster = chunks_of(open_data(str(self.table))), Cluster(workers=(workers, workers))
        schema = self.scorer.schema()
        found = scored_on_ray(cluster, self.scorer, schema, chunks, SIZE, print, Position(0, 0))
        return _steady(scored.table.num_rows for scored in found)

    def data_loader(self) -> float:
        """Images a second of a loop over a DataLoader with one process that decodes."""
        predictor = self.scorer.predictor
        assert predictor is not None
        encoded = [row.image for row in open_data(str(self.table))]
        loader: DataLoader[UInt8Array] = DataLoader(
            Encoded(encoded, self.scorer), batch_size=SIZE, num_workers=1, collate_fn=np.stack
        )
        return _steady(len(predictor(batch)) for batch in loader)


class Encoded(Dataset[UInt8Array]):
    """Encoded images, decoded where they are asked for."""

    def __init__(self, images: list[bytes], scorer: Scorer) -> None:
        self._images, self._spec = images, scorer.spec

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> UInt8Array:
        return decode(self._images[index], self._spec)


def _steady(rows: Iterator[int]) -> float:
    """Rows a second after the first blocks of them, of which each actor gives as many."""
    for _ in itertools.islice(rows, 16):
        began = time.perf_counter()
    count = sum(rows)
    return count / (time.perf_counter() - began)


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    record = Record(args.out)
    made = setting(quick=args.rounds < 5, seed=0, pace=None) | {"images": args.images}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "images.parquet"
        record.measure("start", made, iter(_starts(args, table)))
        record.measure("rates", made, iter(_rates(args, table)))
        record.measure("memory", made, iter(_memory(args, Path(folder))))


def _rates(args: argparse.Namespace, table: Path) -> list[Figure]:
    scorer = open_scorer(args.bundle, None, None, True)
    pixels = np.stack([decode(row.image, scorer.spec) for row in open_data(str(table))])
    bench = Bench(scorer=scorer, table=table, pixels=pixels)
    ways: dict[str, Callable[[], float]] = {
        "bare": bench.bare,
        "one": lambda: bench.on_ray(1),
        "loader": bench.data_loader,
        "two": lambda: bench.on_ray(2),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    with Starting(Cluster(workers=(2, 2))) as starting:
        starting.ready()
        for _ in range(args.rounds):
            for name, way in ways.items():
                found[name].append(way())
                print(f"  {name}: {found[name][-1]:.0f} images/s", flush=True)

    def ratio(a: str, b: str) -> list[float]:
        return [x / y for x, y in zip(found[a], found[b], strict=True)]

    return [
        Figure("images/s over the Predictor alone, one actor", ratio("one", "bare")),
        Figure("two actors over one", ratio("two", "one")),
        Figure("one actor over a DataLoader loop", ratio("one", "loader")),
        Figure("images/s of one actor", found["one"]),
    ]


def _starts(args: argparse.Namespace, table: Path) -> list[Figure]:
    _repeat(_images(args), table, args.images)
    found = [_start(args.bundle, table) for _ in range(args.rounds)]
    return [Figure("seconds from the command to its first row", found)]


def _start(bundle: str, table: Path) -> float:
    with tempfile.TemporaryDirectory() as out:
        words = ["score", bundle, "--data", str(table), "--out", f"{out}/o", "--workers", "1"]
        done = subprocess.run(
            [sys.executable, "-c", _START, str(time.time()), *words],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        )  # fmt: skip
    return float(done.stdout.split()[0])


def _memory(args: argparse.Namespace, folder: Path) -> list[Figure]:
    """The driver's peak, with ten times the input over it."""
    few, many = folder / "few.parquet", folder / "many.parquet"
    _repeat(_images(args), few, args.images)
    _repeat(_images(args), many, 10 * args.images)
    peaks = [_peak(args.memory_bundle, path, folder / path.stem) for path in (few, many)]
    return [
        Figure("driver's peak memory, 10x the input over it", [peaks[1] / peaks[0]]),
        Figure("driver's peak memory, MB", peaks),
    ]


def _peak(bundle: str, data: Path, out: Path) -> float:
    words = ["score", bundle, "--data", str(data), "--out", str(out), "--no-labels"]
    code = "from service.cli import main; main()"
    driver = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{driver.pid}/status"), 0.0
    while driver.poll() is None:
        lines = status.read_text().splitlines()
        peak = max([peak, *(int(x.split()[1]) / 1000 for x in lines if x.startswith("VmHWM"))])
        time.sleep(0.2)
    assert driver.returncode == 0
    return round(peak, 1)


def _images(args: argparse.Namespace) -> list[bytes]:
    if args.test is None:
        return generated_images(find_bundle(args.bundle, None), 512, 0)
    return [row.image for row in open_data(args.test)]


def _repeat(images: list[bytes], path: Path, count: int) -> None:
    """A table of ``count`` rows, the images again and again."""
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, 1000):
            rows = range(start, min(start + 1000, count))
            writer.write_table(pa.table({"image": [images[i % len(images)] for i in rows]}, schema))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="fashion-mnist")
    parser.add_argument("--test", help="DATA like the bundle's; default: noise of its size")
    parser.add_argument("--memory-bundle", default="fashion-mnist", help="a quick one will do")
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
