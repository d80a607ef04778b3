"""The rows of the benchmark: which sides run in pairs, and what is made of their figures."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.pairs import Pace, Spread
from tests.bench.service import oip, wire
from tests.bench.service.figures import Figure, Goal
from tests.bench.service.generator import open_loop
from tests.bench.service.loads import GOOD, TIMEOUT, Load
from tests.bench.service.raw import BATCH, Raw
from tests.bench.service.servers import running
from tests.bench.service.tried import OURS, OURS_TRIED, TRIED, changed
from tests.bench.service.ways import Way, batch_settings, classify, ours, peer

#: Callers that keep a forward pass of 32 images always waiting for the last one.
BATCH_CALLERS = 4
PEER_CALLERS = 16
BATCHING_CALLERS = 32
EXPLAIN_CALLERS, EXPLAIN_EVERY_S = 16, 1.0
UNBATCHED: Mapping[str, Any] = {"max_batch_size": 1}
UNWATCHED: Mapping[str, Any] = {"monitor": False}
OVERLOAD = 3.0
#: A caller in an overload gives up after so long.
PATIENCE_S = 10.0

Side = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, for how long, and with how many threads a forward pass."""

    bundle: Path
    raw: Raw
    pace: Pace
    threads: int

    def rounds(self, sides: Mapping[str, Side]) -> dict[str, list[float]]:
        """A B A B ...; each side has run once before."""
        for side in sides.values():
            side()
        found: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(self.pace.rounds):
            for name, side in sides.items():
                found[name].append(side())
            shown = ", ".join(f"{name} {values[-1]:.1f}" for name, values in found.items())
            print(f"  round {turn + 1} of {self.pace.rounds}: {shown}", flush=True)
        return found


def raw(plan: Plan) -> Iterator[Figure]:
    """Served over raw throughput, 32 decoded images a request."""
    start, grpc_port = ours(plan.bundle)
    name, batches = plan.raw.name, plan.raw.batches
    http = Way(
        name="OIP HTTP",
        port=start.port,
        messages=[oip.pixels(name, batch) for batch in batches],
        p_values=oip.p_values_of_binary,
        images=BATCH,
    )
    grpc = Way(
        name="OIP gRPC",
        port=grpc_port,
        messages=[oip.grpc_pixels(name, batch) for batch in batches],
        p_values=oip.p_values_of_protobuf,
        images=BATCH,
        grpc=True,
    )
    with running(start, plan.threads):
        sides = {"raw": lambda: plan.raw.images_per_s(plan.pace.least_s)}
        for way in (http, grpc):
            way.check(plan.raw.p_values_of_batch())
            sides[way.name] = _rate(plan, way, BATCH_CALLERS)
        found = plan.rounds(sides)
    for way in (http, grpc):
        yield _ratio(
            f"{way.name} over raw images/s, {BATCH} a request, {BATCH_CALLERS} callers",
            found,
            (way.name, "raw"),
            Goal(asked=0.8, aim=0.95),
        )


def latency(plan: Plan) -> Iterator[Figure]:
    """What a caller waits beside decoding and the forward pass."""
    start, grpc_port = ours(plan.bundle)
    name, images = plan.raw.name, plan.raw.encoded
    own = classify(start, images)
    http = Way(
        name="OIP HTTP",
        port=start.port,
        messages=[oip.encoded(name, image) for image in images],
        p_values=oip.p_values_of_binary,
    )
    grpc = Way(
        name="OIP gRPC",
        port=grpc_port,
        messages=[oip.grpc_encoded(name, image) for image in images],
        p_values=oip.p_values_of_protobuf,
        grpc=True,
    )
    with running(start, plan.threads):
        sides = {"raw": lambda: plan.raw.p50_ms(plan.pace.least_s)}
        for way in (own, http, grpc):
            way.check(plan.raw.p_values_of_first())
            sides[way.name] = _p50(plan, way)
        found = plan.rounds(sides)
    for way in (own, http, grpc):
        yield Figure(
            title=f"p50 of {way.name} over raw, 1 image, 1 caller",
            unit=" ms",
            goal=Goal(asked=6, aim=2, most=True),
            rounds=tuple(a - b for a, b in zip(found[way.name], found["raw"], strict=True)),
            sides={f"{side}, ms": Spread.of(found[side]) for side in (way.name, "raw")},
        )


def peers(plan: Plan) -> Iterator[Figure]:
    """Throughput beside each peer's, and again with the peer's batch settings."""
    goals = {
        "mlserver": Goal(asked=1.5, aim=3),
        "litserve": Goal(asked=1.0, aim=1.5),
        "fastapi": Goal(asked=0.6, aim=1.0),
    }
    with ExitStack() as ours_runs:
        own = _started(plan, ours_runs, "ours", OURS)
        for name, goal in goals.items():
            with ExitStack() as runs:
                start, other = peer(name, plan.bundle, plan.raw.encoded)
                runs.enter_context(running(start, plan.threads))
                sides = [own, other]
                if (options := batch_settings(name)) is not None:
                    sides.append(
                        _started(plan, runs, f"ours batching as {name}", {**OURS, **options})
                    )
                for way in sides:
                    way.check(plan.raw.p_values_of_first())
                found = plan.rounds({way.name: _rate(plan, way, PEER_CALLERS) for way in sides})
            for way in (side for side in sides if side is not other):
                title = f"{way.name} over {name}, {PEER_CALLERS} callers"
                yield _ratio(title, found, (way.name, name), goal if way is own else None)


def batching(plan: Plan) -> Iterator[Figure]:
    """Adaptive batching against none."""
    yield _with_and_without(
        plan,
        f"batching over none, {BATCHING_CALLERS} callers",
        ("ours", "ours, no batches"),
        UNBATCHED,
        Goal(asked=1.5, aim=3),
    )


def monitoring(plan: Plan) -> Iterator[Figure]:
    """Counting, reporting and the test of drift against none of them."""
    yield _with_and_without(
        plan,
        f"monitored over not, {BATCHING_CALLERS} callers",
        ("monitored", "unmonitored"),
        UNWATCHED,
        Goal(asked=0.97, aim=1.0),
    )


def _with_and_without(
    plan: Plan, title: str, names: tuple[str, str], without: Mapping[str, Any], goal: Goal
) -> Figure:
    with ExitStack() as runs:
        sides = [_started(plan, runs, names[0]), _started(plan, runs, names[1], without)]
        found = plan.rounds({way.name: _rate(plan, way, BATCHING_CALLERS) for way in sides})
    return _ratio(title, found, names, goal)


def explaining(plan: Plan) -> Iterator[Figure]:
    """How long callers of classify wait where somebody asks for explanations beside them."""
    with ExitStack() as runs:
        way = _started(plan, runs, "ours")
        message = wire.message("/v1/explain", plan.raw.encoded[0], {"Content-Type": "image/png"})

        def p99() -> float:
            return way.load(EXPLAIN_CALLERS, plan.pace.least_s).quantile_ms(0.99)

        def p99_beside() -> float:
            with _asked_every(EXPLAIN_EVERY_S, way.port, message):
                return p99()

        found = plan.rounds({"beside": p99_beside, "alone": p99})
        why = replace(
            way,
            name="explain",
            messages=[
                wire.message("/v1/explain", image, {"Content-Type": "image/png"})
                for image in plan.raw.encoded
            ],
        )
        costs = plan.rounds({"explain": _p50(plan, why), "classify": _p50(plan, way)})
    yield Figure(
        title="p50 of an explanation over a classification, 1 caller",
        unit="x",
        goal=Goal(asked=3, aim=3, most=True),
        rounds=tuple(a / b for a, b in zip(costs["explain"], costs["classify"], strict=True)),
        sides={f"{side}, ms": Spread.of(values) for side, values in costs.items()},
    )
    yield Figure(
        title=f"p99 of {EXPLAIN_CALLERS} callers beside an explanation a second, over alone",
        unit="x",
        goal=Goal(asked=1.3, aim=1.3, most=True),
        rounds=tuple(a / b for a, b in zip(found["beside"], found["alone"], strict=True)),
        sides={f"{side}, ms": Spread.of(values) for side, values in found.items()},
    )


@contextmanager
def _asked_every(seconds: float, port: int, message: bytes) -> Iterator[None]:
    """Another client, meanwhile; all of its answers are good."""
    stop, failures = threading.Event(), list[str]()

    def ask() -> None:
        while not stop.wait(seconds):
            status = wire.status_of(wire.ask(port, message))
            if status not in GOOD:
                failures.append(status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise SystemExit(f"explanations were answered {failures}: expected 200")


def overload(plan: Plan) -> Iterator[Figure]:
    """Three times the capacity, which each round measures anew, in an open loop."""
    with ExitStack() as runs:
        way = _started(plan, runs, "ours")
        rounds = [_overloaded(plan, way, turn) for turn in range(plan.pace.rounds + 1)][1:]
    sides = {key: Spread.of([r[key] for r in rounds]) for key in rounds[0]}
    yield Figure(
        title="goodput at 3x the capacity over its peak",
        unit="x",
        goal=Goal(asked=0.8, aim=0.95),
        rounds=tuple(r["goodput, images/s"] / r["capacity, images/s"] for r in rounds),
        sides=sides,
    )
    for base, goal in (
        ("p99 at capacity, ms", Goal(asked=2, aim=2, most=True)),
        (f"p99 of {BATCHING_CALLERS} callers, ms", None),
    ):
        yield Figure(
            title=f"p99 of admitted at 3x over {base.removesuffix(', ms')}",
            unit="x",
            goal=goal,
            rounds=tuple(r["p99 of admitted, ms"] / r[base] for r in rounds),
            sides=sides,
            note="at capacity: an open loop of just that rate" if goal else "",
        )


def _overloaded(plan: Plan, way: Way, turn: int) -> dict[str, float]:
    peak = way.load(BATCHING_CALLERS, plan.pace.least_s)
    capacity = peak.images_per_s

    def offered(times: float) -> Load:
        load = open_loop(
            way.port,
            way.messages,
            rate=times * capacity,
            seconds=plan.pace.least_s,
            timeout_s=PATIENCE_S,
            seed=turn,
        )
        return load.check(allowed=("429", TIMEOUT))

    full, over = offered(1.0), offered(OVERLOAD)
    refused = 1 - sum(over.statuses.get(good, 0) for good in GOOD) / len(over.answers)
    print(
        f"  round {turn} (0: warm-up): capacity {capacity:.0f}/s; at 3x {over.statuses}", flush=True
    )
    return {
        "capacity, images/s": capacity,
        "goodput, images/s": over.images_per_s,
        "refused at 3x, share": refused,
        f"p99 of {BATCHING_CALLERS} callers, ms": peak.quantile_ms(0.99),
        "p99 at capacity, ms": full.quantile_ms(0.99),
        "p99 of admitted, ms": over.quantile_ms(0.99),
    }


def _started(
    plan: Plan, runs: ExitStack, name: str, options: Mapping[str, Any] | None = None
) -> Way:
    """Ours, running until ``runs`` ends, asked over its own HTTP."""
    start, _ = ours(plan.bundle, options, name)
    runs.enter_context(running(start, plan.threads))
    return classify(start, plan.raw.encoded)


def _rate(plan: Plan, way: Way, callers: int) -> Side:
    return lambda: way.load(callers, plan.pace.least_s).images_per_s


def _p50(plan: Plan, way: Way) -> Side:
    return lambda: way.load(1, plan.pace.least_s).quantile_ms(0.5)


def _ratio(
    title: str, found: Mapping[str, list[float]], sides: tuple[str, str], goal: Goal | None
) -> Figure:
    above, below = (found[side] for side in sides)
    return Figure(
        title=title,
        unit="x",
        goal=goal,
        rounds=tuple(a / b for a, b in zip(above, below, strict=True)),
        sides={f"{side}, images/s": Spread.of(found[side]) for side in sides},
        note=f"load average now {os.getloadavg()[0]:.1f}",
    )


def tuning(plan: Plan) -> Iterator[Figure]:
    """Both sides under other settings over the committed ones, which are to be the best."""
    with ExitStack() as runs:
        own = _started(plan, runs, "ours", OURS)
        others = [
            _started(plan, runs, f"ours with {label}", options)
            for label, options in OURS_TRIED.items()
        ]
        found = plan.rounds({way.name: _rate(plan, way, PEER_CALLERS) for way in (own, *others)})
    for way in others:
        yield _ratio(f"{way.name}, over as committed", found, (way.name, own.name), None)
    for name, labels in TRIED.items():
        with ExitStack() as runs:
            sides = []
            for folder in (None, *(changed(name, label) for label in labels)):
                start, way = peer(name, plan.bundle, plan.raw.encoded, folder)
                runs.enter_context(running(start, plan.threads))
                sides.append(way)
            found = plan.rounds({way.name: _rate(plan, way, PEER_CALLERS) for way in sides})
        for way in sides[1:]:
            yield _ratio(f"{way.name}, over as committed", found, (way.name, name), None)


ROWS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "raw": raw,
    "latency": latency,
    "peers": peers,
    "batching": batching,
    "monitoring": monitoring,
    "overload": overload,
    "explaining": explaining,
    "tuning": tuning,
}
DEFAULT = [name for name in ROWS if name != "tuning"]
