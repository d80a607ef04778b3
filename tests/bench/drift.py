"""What the drift test promises and sees: ``python -m tests.bench.drift [--quick] [--rows ...]``.

Simulated streams with fixed seeds, each with a reference of its own. Scores are -u, u uniform;
a contaminated image has u shrunk by 0.01, so that it looks like the strangest hundredth of traffic.

- false_alarms: mean time to a false alarm over its setting h, directly up to h = 30,000; the
  largest budgets by extrapolation, the ratio being the same at all h that were tried
- delays: images from a change to the alarm, at h = 10,000 and at the default budget, with the
  change at once and after clean traffic; beside it CUSUM on small p alone
- other_drifts: too typical, stuck on an ordinary image, one of four cameras stuck
- plug_in: a betting martingale that learns a histogram of all p, whose p are ranked among the
  reference alone, and among the growing one; nominal 1%
- memory: the same with fewer values kept, and with growth stopped altogether
- renewals: how often the service would alarm on clean traffic, beginning anew after each alarm

Nothing is asserted. Results are kept in ``build/bench/drift.json`` as they come.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from calibration.arrays import BoolArray, FloatArray
from calibration.bets import WEIGHTS, Bets
from calibration.drift import SECONDS_A_DAY, AlarmBudget, DriftTest, accumulate
from calibration.growing_reference import SIZE, GrowingReference
from tests.bench.record import Record, Result, setting

DEFAULT_PATH = Path("build/bench/drift.json")
REFERENCE_ROWS = 2000
SHRUNK = 0.01
CONTAMINATIONS = (0.02, 0.05, 0.10)
DIRECT = 10_000.0
DEFAULT = AlarmBudget().images
THRESHOLDS = {f"h = {DIRECT:,.0f}": DIRECT, "default budget": DEFAULT}
STEP = 500

#: The bet of CUSUM beside ours: equal parts of e p^(e - 1).
CUSUM_POWERS = (0.5, 0.7, 0.9)
PLUG_IN_BINS, PLUG_IN_LEVEL = 20, 0.01

Draw = Callable[[np.random.Generator, int], FloatArray]
Ranker = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``streams`` of each kind, ``images`` at most in each after ``clean`` ones."""

    streams: int
    images: int
    clean: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Named figures of one setting."""

    name: str
    figures: dict[str, float | int | None]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **self.figures}

    def __str__(self) -> str:
        told = ", ".join(f"{name} {_told(value)}" for name, value in self.figures.items())
        return f"{self.name}: {told}"


class FixedReference:
    """Ranks among a reference that never grows: what must not be bet against for long."""

    def __init__(self, reference: FloatArray, seed: int) -> None:
        self._values, self._rng = np.sort(reference), np.random.default_rng(seed)

    def p_values(self, scores: FloatArray) -> FloatArray:
        left = np.searchsorted(self._values, scores, side="left")
        right = np.searchsorted(self._values, scores, side="right")
        n, drawn = len(self._values), 1 - self._rng.random(len(scores))
        p: FloatArray = (n - right + drawn * (1 + right - left)) / (n + 1)
        return p


class StoppedReference(FixedReference):
    """Grows to ``size`` scores, then never again."""

    def __init__(self, reference: FloatArray, seed: int, size: int) -> None:
        super().__init__(reference, seed)
        self._growing = GrowingReference(reference, seed, size)
        self._room, self._kept = max(0, size - len(reference)), [reference]

    def p_values(self, scores: FloatArray) -> FloatArray:
        first, rest = scores[: self._room], scores[self._room :]
        self._room -= len(first)
        grown = self._growing.p_values(first)
        if len(first):
            self._kept.append(first)
            self._values = np.sort(np.concatenate(self._kept))
        return np.concatenate([grown, super().p_values(rest)])


class Streams:
    """Tests of many streams at a time; each step advances all by as many images."""

    def __init__(self, plan: Plan, kind: int, make: Callable[[FloatArray, int], Ranker]) -> None:
        seeds = np.random.SeedSequence([plan.seed, kind]).spawn(plan.streams)
        self.rngs = [np.random.default_rng(seed) for seed in seeds]
        self._rank = [make(_clean(rng, REFERENCE_ROWS), i) for i, rng in enumerate(self.rngs)]
        self._bets = [Bets() for _ in seeds]
        self._worth = np.zeros((plan.streams, len(WEIGHTS)))
        self._cusum = np.zeros(plan.streams)

    def feed(self, draw: Draw, images: int) -> tuple[FloatArray, FloatArray]:
        """log R and CUSUM's S after each image, (streams, images) each."""
        p = np.stack([rank(draw(g, images)) for rank, g in zip(self._rank, self.rngs, strict=True)])
        factors = np.stack([bets(row) for bets, row in zip(self._bets, p, strict=True)], axis=1)
        worth = accumulate(self._worth, factors, DEFAULT / WEIGHTS)
        self._worth = worth[-1]
        return np.log((worth * WEIGHTS).sum(axis=-1)).T, self._cusum_of(p)

    def _cusum_of(self, p: FloatArray) -> FloatArray:
        gains = np.log(np.mean([e * p ** (e - 1) for e in CUSUM_POWERS], axis=0))
        sums = np.concatenate([np.zeros((len(p), 1)), gains.cumsum(axis=1)], axis=1)
        least = np.minimum.accumulate(sums[:, :-1], axis=1)
        found = sums[:, 1:] - np.minimum(least, -np.maximum(self._cusum, 0)[:, None])
        self._cusum = found[:, -1]
        return np.asarray(found)


class Crossings:
    """When each stream first reached each threshold, in images from 1; 0 = not yet."""

    def __init__(self, streams: int, thresholds: dict[str, float]) -> None:
        self._logs = {name: math.log(h) for name, h in thresholds.items()}
        self.first = {name: np.zeros(streams, dtype=np.int64) for name in thresholds}
        self.seen = 0

    def see(self, statistic: FloatArray) -> None:
        for name, log_h in self._logs.items():
            above = statistic >= log_h
            new = above.any(axis=1) & (self.first[name] == 0)
            self.first[name][new] = self.seen + above[new].argmax(axis=1) + 1
        self.seen += statistic.shape[1]

    @property
    def complete(self) -> bool:
        return all(first.all() for first in self.first.values())

    def delay(self, name: str) -> dict[str, float | int | None]:
        """Median over all streams, None where half of them never got there; and the share that
        did."""
        first = self.first[name]
        seen = np.where(first == 0, np.inf, first)
        median = float(np.median(seen))
        tail = float(np.quantile(seen, 0.9, method="higher"))
        return {
            "median_delay": median if math.isfinite(median) else None,
            "delay_of_90%": tail if math.isfinite(tail) else None,
            "share_seen": float((first > 0).mean()),
        }


def false_alarms(plan: Plan) -> Iterator[Measured]:
    """Mean time = images watched until the alarm or the end, over alarms; with a 95% interval."""
    settings = {f"h = {h:,.0f}": float(h) for h in (1_000, 3_000, 10_000, 30_000)}
    yield from _false_alarms(plan, "growing reference", _growing(SIZE), settings, kind=0)


def delays(plan: Plan) -> Iterator[Measured]:
    for kind, clean in enumerate((0, plan.clean)):
        for i, share in enumerate(CONTAMINATIONS):
            draw = _contaminated(share)
            name = f"{share:.0%} contaminated, change after {clean:,} clean images"
            yield from _delays(plan, name, draw, _growing(SIZE), clean, 10 + 5 * kind + i, True)


def other_drifts(plan: Plan) -> Iterator[Measured]:
    drifts: dict[str, Draw] = {
        "10% too typical": _too_typical(0.10),
        "all of them the most typical": lambda rng, n: np.full(n, -1.0),
        "stuck on an ordinary image (p = .4)": lambda rng, n: np.full(n, -0.4),
        "one of four cameras stuck on it": _stuck(0.25),
        "one of ten cameras stuck on it": _stuck(0.1),
    }
    for i, (name, draw) in enumerate(drifts.items()):
        yield from _delays(plan, name, draw, _growing(SIZE), plan.clean, kind=30 + i)


def plug_in(plan: Plan) -> Iterator[Measured]:
    """Ville: a martingale reaches 1 / level in a share ``level`` of streams at most."""
    for name, fixed in (("the reference alone", True), ("the growing reference", False)):
        alarms = 0
        for i in range(plan.streams):
            rng = np.random.default_rng([plan.seed, 40, i])
            reference = _clean(rng, REFERENCE_ROWS)
            made = FixedReference(reference, i) if fixed else GrowingReference(reference, i)
            alarms += _plug_in_alarm(made.p_values(_clean(rng, plan.images)))
        yield Measured(
            name=f"plug-in martingale, p among {name}",
            figures={
                "nominal": PLUG_IN_LEVEL,
                "share_with_false_alarm": alarms / plan.streams,
                "images": plan.images,
                "streams": plan.streams,
            },
        )


def memory(plan: Plan) -> Iterator[Measured]:
    """Kept values, then counts; and, last, growth stopped altogether."""
    at_direct = {f"h = {DIRECT:,.0f}": DIRECT}
    ways = {f"{size:,} values, then counts": _growing(size) for size in (2_000, 20_000, 200_000)}
    ways |= {f"growth stopped at {size:,}": _stopped(size) for size in (2_000, 20_000)}
    for i, (name, make) in enumerate(ways.items()):
        yield from _false_alarms(plan, name, make, at_direct, kind=50)
        if i < 3:
            draw = _contaminated(0.05)
            yield from _delays(plan, f"5%, {name}", draw, make, plan.clean, kind=51)


def renewals(plan: Plan) -> Iterator[Measured]:
    """Alarms of clean traffic as the service counts them: each is followed by a new beginning."""
    budget = AlarmBudget(days=DIRECT / SECONDS_A_DAY, rate=1)
    for n in (200, REFERENCE_ROWS):
        alarms = np.array([_renewed(plan, budget, n, stream) for stream in range(plan.streams)])
        yield Measured(
            name=f"{n:,} reference rows, h = {DIRECT:,.0f}",
            figures={
                "alarms_per_h_images": float(alarms.mean() * DIRECT / plan.images),
                "most_in_a_stream": int(alarms.max()),
                "images": plan.images,
                "streams": plan.streams,
            },
        )


def _renewed(plan: Plan, budget: AlarmBudget, n: int, stream: int) -> int:
    rng = np.random.default_rng([plan.seed, 60, n, stream])
    test = DriftTest(_clean(rng, n), budget, seed=stream)
    return sum(len(test.renew(_clean(rng, STEP))) for _ in range(0, plan.images, STEP))


def _false_alarms(
    plan: Plan,
    name: str,
    make: Callable[[FloatArray, int], Ranker],
    settings: dict[str, float],
    kind: int,
) -> Iterator[Measured]:
    streams = Streams(plan, kind, make)
    ours, cusum = Crossings(plan.streams, settings), Crossings(plan.streams, settings)
    for _ in range(0, plan.images, STEP):
        log_r, s = streams.feed(_clean, STEP)
        ours.see(log_r)
        cusum.see(s)
    for test, crossings in (("drift test", ours), ("CUSUM", cusum)):
        for setting_, h in settings.items():
            yield Measured(
                name=f"{test}, {name}, {setting_}", figures=_mean_time(crossings, setting_, h)
            )


def _mean_time(crossings: Crossings, name: str, h: float) -> dict[str, float | int | None]:
    first = crossings.first[name]
    watched = float(np.where(first == 0, crossings.seen, first).sum())
    alarms = int((first > 0).sum())
    low = 2 * watched / float(chi2.ppf(0.975, 2 * alarms + 2))
    high = 2 * watched / float(chi2.ppf(0.025, 2 * alarms)) if alarms else None
    return {
        "mean_time": watched / alarms if alarms else None,
        "over_h": watched / alarms / h if alarms else None,
        "low": low,
        "high": high,
        "alarms": alarms,
        "streams": len(first),
    }


def _delays(
    plan: Plan,
    name: str,
    draw: Draw,
    make: Callable[[FloatArray, int], Ranker],
    clean: int,
    kind: int,
    beside: bool = False,
) -> Iterator[Measured]:
    streams = Streams(plan, kind, make)
    ours, cusum = Crossings(plan.streams, THRESHOLDS), Crossings(plan.streams, THRESHOLDS)
    for _ in range(0, clean, STEP):
        streams.feed(_clean, STEP)
    step = 50
    while ours.seen < plan.images and not (ours.complete and (cusum.complete or not beside)):
        log_r, s = streams.feed(draw, step)
        ours.see(log_r)
        cusum.see(s)
        step = min(STEP, 2 * step)
    for test, crossings in (("drift test", ours), ("CUSUM", cusum))[: 1 + beside]:
        for setting_ in THRESHOLDS:
            yield Measured(name=f"{test}, {name}, {setting_}", figures=crossings.delay(setting_))


def _plug_in_alarm(p: FloatArray) -> bool:
    """A Laplace-smoothed histogram of all p so far as the bet on the next."""
    bins = np.minimum((p * PLUG_IN_BINS).astype(np.int64), PLUG_IN_BINS - 1)
    counts = np.cumsum(bins[:, None] == np.arange(PLUG_IN_BINS), axis=0)
    before = counts[np.arange(len(p)), bins] - 1
    factors = PLUG_IN_BINS * (1 + before) / (PLUG_IN_BINS + np.arange(len(p)))
    return bool(np.log(factors).cumsum().max() >= -math.log(PLUG_IN_LEVEL))


def _growing(size: int) -> Callable[[FloatArray, int], Ranker]:
    return lambda reference, seed: GrowingReference(reference, seed, size).p_values


def _stopped(size: int) -> Callable[[FloatArray, int], Ranker]:
    return lambda reference, seed: StoppedReference(reference, seed, size).p_values


def _clean(rng: np.random.Generator, images: int) -> FloatArray:
    return -rng.random(images)


def _contaminated(share: float) -> Draw:
    return lambda rng, n: _clean(rng, n) * np.where(rng.random(n) < share, SHRUNK, 1.0)


def _too_typical(share: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> FloatArray:
        scores = _clean(rng, n)
        return np.where(rng.random(n) < share, -1 - SHRUNK * scores, scores)

    return draw


def _stuck(share: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> FloatArray:
        stuck: BoolArray = rng.random(n) < share
        return np.where(stuck, -0.4, _clean(rng, n))

    return draw


def _told(value: float | int | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


ROWS: dict[str, Callable[[Plan], Iterator[Result]]] = {
    "false_alarms": false_alarms,
    "delays": delays,
    "other_drifts": other_drifts,
    "plug_in": plug_in,
    "memory": memory,
    "renewals": renewals,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few streams: figures mean little")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DEFAULT_PATH)
    args = parser.parse_args()
    plan = Plan(
        streams=8 if args.quick else args.streams,
        images=10_000 if args.quick else 60_000,
        clean=2_000 if args.quick else 20_000,
        seed=args.seed,
    )
    record = Record(args.out)
    surroundings = setting(quick=args.quick, seed=args.seed) | {
        "streams": plan.streams,
        "images": plan.images,
        "reference_rows": REFERENCE_ROWS,
        "values_kept": SIZE,
        "contaminant": f"p shrunk by {SHRUNK}",
    }
    for name in args.rows:
        record.measure(name, surroundings, ROWS[name](plan))


if __name__ == "__main__":
    main()
