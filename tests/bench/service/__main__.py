"""What serving costs and gains: ``python -m tests.bench.service --bundle NAME --test DATA``.

Ours against the Predictor alone, against itself without batching and under three times its
capacity, and against the same Predictor behind bare FastAPI, LitServe and MLServer, each of which
gets an environment of its own in ``.venv/peers`` (built once) and its best settings of those tried
(``tests/bench/service/peers``). All on this machine: servers, the load and the figures. A figure is
the median of interleaved rounds (A B A B ...) with its range; nothing is asserted, and absolute
figures of different runs are not to be compared. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import torch

from service.catalog import find_bundle
from tests.bench.pairs import Pace
from tests.bench.record import Record, setting
from tests.bench.service.environments import NAMES, PEERS, python_of
from tests.bench.service.figures import Figure, table
from tests.bench.service.raw import Raw, generated_images, split_images
from tests.bench.service.rows import DEFAULT, ROWS, Plan

DEFAULT_OUT = Path("runs/bench/service.json")
IMAGES = 512
EXAMPLES = """examples:
  python -m tests.bench.service --test DATA/fashion_mnist/test.parquet
  python -m tests.bench.service --rows peers --quick       try it: its figures mean nothing
"""


def main() -> None:
    args = _arguments()
    signal.signal(signal.SIGTERM, _stop)  # as Ctrl-C: what was started is ended
    torch.set_num_threads(args.threads)
    bundle = find_bundle(args.bundle, None).resolve()
    if {"peers", "tuning"} & {*args.rows}:
        for name in NAMES:
            python_of(name)
    made = generated_images(bundle, IMAGES, args.seed) if args.test is None else None
    images = split_images(args.test, IMAGES) if made is None else made
    pace = Pace(
        rounds=1 if args.quick else args.rounds, least_s=1.0 if args.quick else args.seconds
    )
    plan = Plan(bundle=bundle, raw=Raw(bundle, images), pace=pace, threads=args.threads)
    record, found = Record(args.out), list[Figure]()
    for row in args.rows:
        print(f"\n{row}: {ROWS[row].__doc__}", flush=True)
        record.measure(row, _setting(args, pace), _kept(ROWS[row](plan), found))
    print(f"\n{table(found)}\n\nall rounds are in {args.out}")


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _kept(figures: Iterator[Figure], found: list[Figure]) -> Iterator[Figure]:
    for figure in figures:
        found.append(figure)
        yield figure


def _setting(args: argparse.Namespace, pace: Pace) -> dict[str, object]:
    """What figures depend on; the peers' packages are in the files beside."""
    return {
        **setting(quick=args.quick, seed=args.seed, pace=pace),
        "bundle": args.bundle,
        "test": args.test and Path(args.test).name,
        "threads": args.threads,
        "cores": os.cpu_count(),
        "peers": {name: _version(name) for name in NAMES},
    }


def _version(name: str) -> str:
    lines = (PEERS / name / "requirements.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}=="))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.service",
        description=(__doc__ or "").partition("\n\n")[2],
        epilog=EXAMPLES + "\nrows:\n" + _rows(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cores = os.cpu_count() or 1
    add = parser.add_argument
    add("--bundle", default="fashion-mnist", help="a path or the name of a bundle that ships")
    add("--test", metavar="DATA", help="images to send, e.g. test.parquet; else generated noise")
    add("--rows", nargs="+", choices=ROWS, default=DEFAULT, help="which; default: all but tuning")
    add(
        "--threads",
        type=int,
        default=max(1, cores // 2),
        help="of one forward pass, on every side; default: half the cores (here %(default)s), "
        "since the load and the servers' other work take theirs from the same machine",
    )
    add("--rounds", type=int, default=7, help="pairs; default %(default)s")
    add("--seconds", type=float, default=6.0, help="a side in a round; default %(default)s")
    add("--quick", action="store_true", help="one round of a second")
    add("--seed", type=int, default=0, help="of arrivals and of generated images")
    add("--out", type=Path, default=DEFAULT_OUT, help="JSON; default %(default)s")
    return parser.parse_args()


def _rows() -> str:
    return "\n".join(f"  {name:9} {row.__doc__}" for name, row in ROWS.items())


if __name__ == "__main__":
    main()
