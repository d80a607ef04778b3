"""The long runs: ``python -m tests.soak RUN``, see ``--help``; a short one of each is a test.

Each starts a service of its own on free loopback ports, prints how it goes, and writes what came of
it into ``runs/soak.json``. Its exit status is 1 where something is not as it must be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from service.bundle import Bundle
from service.catalog import find_bundle
from tests.bench.record import Record, setting
from tests.integration.running import Service, serving
from tests.soak import schema
from tests.soak.chaos import PARTS, chaos, terminate
from tests.soak.drift import bundles_for, drift, prometheus_of, streams
from tests.soak.expected import Version, steady, versions_of
from tests.soak.fuzz import fuzz
from tests.soak.pictures import pictures
from tests.soak.prometheus import missing
from tests.soak.steady_load import soak
from tests.soak.swap import swapping
from tests.soak.variant import variant
from tests.soak.wire import through_the_wire
from train.data import open_data

IMAGES = 100


class Result(Protocol):
    """What one part of a run came to."""

    @property
    def faults(self) -> Any: ...

    def to_dict(self) -> dict[str, Any]: ...


class Run:
    """A bundle and a second version of it, images, and a folder for what is temporary."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.asked = asked
        self.folder = folder
        self.bundle = find_bundle(asked.bundle)
        self.paths = [self.bundle, variant(self.bundle, folder / "second")]
        self.images = pictures(self.paths, asked.data, IMAGES)
        self.versions: tuple[Version, ...] = versions_of(self.paths, self.images)
        self.log = folder / "access.log"
        self.haproxy = asked.ingress == "haproxy"

    @contextmanager
    def service(self, *flags: str, bundle: Path | None = None) -> Iterator[Service]:
        """Ready; ended at the end. ``bundle``: in place of the run's own."""
        say("starting the service")
        ingress = () if self.haproxy else ("--no-haproxy",)
        running = serving(bundle or self.bundle, "--access-log", str(self.log), *ingress, *flags)
        try:
            running.wait_until_announced()
            yield running
        finally:
            running.close()


def run_fuzz(run: Run) -> Iterator[Result]:
    shape = Bundle.load(run.bundle).spec.shape
    requests = run.asked.requests
    if not schema.is_built():
        say("building the environment of schemathesis")
        schema.build()
    with run.service() as service:
        yield schema.conform(service, run.versions[0], run.folder, examples=run.asked.examples)
        yield fuzz(
            service,
            run.versions[0],
            run.images,
            shape,
            requests=requests,
            seed=run.asked.seed,
            settle=requests // 5,
            say=say,
        )


def run_soak(run: Run) -> Iterator[Result]:
    with run.service() as service:
        yield soak(
            service,
            run.versions[:1],
            run.images,
            share=run.asked.share,
            seconds=run.asked.seconds,
            capacity_s=min(20.0, run.asked.seconds / 5),
            say=say,
        )


def run_swap(run: Run) -> Iterator[Result]:
    with run.service("--replicas", "2") as service:
        every_s = run.asked.every
        rounds = max(1, round(run.asked.seconds / every_s))
        yield swapping(service, run.versions, run.images, every_s=every_s, rounds=rounds, say=say)


def run_chaos(run: Run) -> Iterator[Result]:
    parts = run.asked.parts or [p for p in PARTS if run.haproxy or "haproxy" not in p]
    with run.service("--replicas", "2") as service:
        yield from chaos(service, run.versions, run.images, parts=parts)
        yield terminate(service, run.images, run.versions, run.log)


def run_wire(run: Run) -> Iterator[Result]:
    if run.asked.data is None:
        raise SystemExit("wire: expected --data DATA, images like those of the calibration")
    rows = islice(iter(open_data(run.asked.data)), run.asked.images)
    images = [row.image for row in rows]
    alone = steady(run.bundle, images[:IMAGES])
    (version,) = versions_of([run.bundle], alone)
    with run.service() as service:
        yield through_the_wire(service, version, alone, images, run.asked.alpha, say)


def run_drift(run: Run) -> Iterator[Result]:
    asked = run.asked
    if asked.data is None or asked.strangers is None:
        raise SystemExit("drift: expected --data DATA, typical images, and --strangers DATA")
    if absent := missing():
        raise SystemExit(f"drift: needs {', '.join(absent)}: apt-get install {' '.join(absent)}")
    typical, strangers = (
        [row.image for row in islice(iter(open_data(data)), asked.clean + asked.changed)]
        for data in (asked.data, asked.strangers)
    )
    wanted = streams(typical, strangers, asked.clean, asked.changed, asked.within)
    bundles = bundles_for(run.bundle, run.folder, wanted)
    others = map(str, bundles[1:])
    with (
        run.service(*others, bundle=bundles[0]) as service,
        prometheus_of(service) as prometheus,
    ):
        yield from drift(service, prometheus, wanted, say)


RUNS = {
    "fuzz": run_fuzz,
    "soak": run_soak,
    "swap": run_swap,
    "chaos": run_chaos,
    "wire": run_wire,
    "drift": run_drift,
}


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    asked = _parser().parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(asked, Path(folder))
        settings = {**setting(quick=False, seed=asked.seed), "asked": _shown(asked)}

        def kept() -> Iterator[Result]:
            for result in RUNS[asked.run](run):
                results.append(result)
                yield result

        Record(asked.out).measure(asked.run, settings, kept())
    faults = sum(len(result.faults) for result in results)
    say(f"{asked.run}: {faults} faults; {asked.out}")
    sys.exit(1 if faults else 0)


def _shown(asked: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(asked).items() if name != "out"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    runs = parser.add_subparsers(dest="run", required=True)
    for name, what in (
        ("fuzz", "hostile and broken requests: no 5xx, no hang, memory flat"),
        ("soak", "minutes at a share of the capacity: no error, memory flat"),
        ("swap", "deployments under load: no request failed, none mixed"),
        ("chaos", "processes killed under load: back by itself, no wrong verdict"),
        ("wire", "typical images: the rates that were promised; one answer through every face"),
        ("drift", "traffic changes before a real Prometheus: the alert fires in time, or not"),
    ):
        own = runs.add_parser(name, help=what)
        own.add_argument("--bundle", default="fashion-mnist", help="BUNDLE that is served")
        own.add_argument("--data", help="DATA of the images that are asked about; default: drawn")
        own.add_argument("--ingress", choices=("haproxy", "python"), default="haproxy")
        own.add_argument("--seed", type=int, default=0)
        own.add_argument("--out", type=Path, default=Path("runs/soak.json"))
        if name in ("soak", "swap"):
            own.add_argument("--seconds", type=float, default=600.0)
    fuzzing, soaking, swaps, killing, wire, drifting = (runs.choices[name] for name in RUNS)
    fuzzing.add_argument("--requests", type=int, default=20_000)
    fuzzing.add_argument("--examples", type=int, default=100, help="of schemathesis, an operation")
    soaking.add_argument("--share", type=float, default=0.7, help="of the measured capacity")
    swaps.add_argument("--every", type=float, default=20.0, help="seconds between deployments")
    wire.add_argument("--images", type=int, default=5_000)
    wire.add_argument("--alpha", type=float, default=0.05)
    drifting.add_argument("--strangers", help="DATA of images that do not belong there")
    drifting.add_argument("--clean", type=int, default=2_000, help="typical images at first")
    drifting.add_argument("--changed", type=int, default=2_000, help="images after them")
    drifting.add_argument("--within", type=int, default=500, help="the alarm, in changed images")
    killing.add_argument("--parts", nargs="+", choices=PARTS, help="default: all there are")
    return parser


if __name__ == "__main__":
    main()
