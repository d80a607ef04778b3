"""``oodgate drift``: two tables of scores -> has anything changed, where, and what moved most."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.needs import need_figures

if TYPE_CHECKING:
    from calibration.arrays import FloatArray
    from calibration.drift import AlarmBudget
    from calibration.windows import Moved
    from service.cli.drift_tables import Side

TABLE_HELP = (
    "a folder that oodgate score wrote, a Parquet file of scores, or a bundle's folder, which "
    "stands for its calibration rows."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What the comparison gave; ``scores``: log R after each usable row of the stream (N,)."""

    reference: Side
    stream: Side
    on: str
    budget: AlarmBudget
    seed: int
    scores: FloatArray
    threshold: float
    alarm_at: int | None
    window: int
    moved: list[Moved]


def drift(
    a: Annotated[Path, typer.Argument(metavar="A", help=f"The reference: {TABLE_HELP}")],
    b: Annotated[
        Path, typer.Argument(metavar="B", help="The stream, in the order of its rows: likewise.")
    ],
    days: Annotated[
        float, typer.Option(help="Alarm budget: one false alarm in so many days,")
    ] = 30.0,
    rate: Annotated[float, typer.Option(help="at so many images a second.")] = 100.0,
    on: Annotated[
        str, typer.Option(metavar="NAME", help="What the test looks at: score, or a statistic.")
    ] = "score",
    window: Annotated[
        int | None,
        typer.Option(help="Distances of the last so many rows of B; default all.", min=1),
    ] = None,
    top: Annotated[int, typer.Option(help="How many distances to print.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the draws among equal ranks.", min=0)] = 0,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it: a .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """Compare a stream of scores B with a reference A: the service's own test of drift, offline.

    One sequential test says whether there is an alarm and at which row of B; beside it stands how
    far everything moved, without alarms of its own. An alarm is an answer and no error: the exit
    status is 0 with and without one (programs read test.alarmed of --json), and 2 for tables that
    cannot be compared. A's images must not be ones that the model was trained on, and B's in an
    order that says nothing by itself: frames of a video are alike without any drift.
    """
    if figure is not None:
        _check_figure(figure)
    found = compare_tables(a, b, days=days, rate=rate, on=on, window=window, seed=seed)
    if figure is not None:
        from service.cli.drift_figure import write_figure

        write_figure(found, figure)
    typer.echo(json.dumps(to_dict(found)) if as_json else told(found, top))


def compare_tables(
    a: Path, b: Path, *, days: float, rate: float, on: str, window: int | None, seed: int
) -> Found:
    """Everything of the comparison; raises ``CalibrationError`` where there is none."""
    from calibration.drift import AlarmBudget, DriftTest
    from calibration.table import STATISTIC_PREFIX
    from service.cli.drift_tables import looked_at, open_sides

    budget, on = AlarmBudget(days=days, rate=rate), on.removeprefix(STATISTIC_PREFIX)
    reference, stream = open_sides(a, b)
    known, seen = looked_at(reference, stream, on)
    test = DriftTest(known, budget, seed)
    scores = test.update(seen)
    rows = min(window or len(stream), len(stream))
    return Found(
        reference=reference,
        stream=stream,
        on=on,
        budget=budget,
        seed=seed,
        scores=scores,
        threshold=test.threshold,
        alarm_at=test.alarm_at,
        window=rows,
        moved=_moved(reference, stream, {on: known}, {on: seen}, rows),
    )


def _moved(
    reference: Side,
    stream: Side,
    known: dict[str, FloatArray],
    seen: dict[str, FloatArray],
    rows: int,
) -> list[Moved]:
    """Of the last ``rows`` of the stream; ``known`` and ``seen`` are what the test looks at."""
    from calibration.windows import compare

    recent = {name: values[-rows:] for name, values in {**stream.columns, **seen}.items()}
    predicted = stream.predicted[-rows:]
    columns = {**reference.columns, **known}
    return compare(columns, recent, reference.predicted, predicted, stream.classes)


def to_dict(found: Found) -> dict[str, Any]:
    """For programs; rows count from 0, and those with an error too. Null for what is infinite."""
    budget, last = found.budget, float(found.scores[-1])
    return {
        "reference": _side(found.reference),
        "stream": _side(found.stream),
        "test": {
            "on": found.on,
            "alarmed": found.alarm_at is not None,
            **_alarm(found),
            "score": last,
            "highest_score": float(found.scores.max()),
            "threshold": found.threshold,
            "budget": {"days": budget.days, "rate": budget.rate, "images": budget.images},
            "seed": found.seed,
        },
        "window_rows": found.window,
        "moved": [
            {k: None if _infinite(v) else v for k, v in asdict(one).items()} for one in found.moved
        ],
    }


def told(found: Found, top: int) -> str:
    """For people."""
    lines = [
        *(f"{name:<10} {_told_side(side)}" for name, side in _sides(found).items()),
        f"{'test':<10} {_told_test(found)}",
        "",
        f"what moved most (the last {found.window:,} rows of B; for display, no alarm)",
        f"{'':<26} {'distance':>8} {'x chance':>8}  median in A -> B",
    ]
    return "\n".join([*lines, *(_told_moved(one) for one in found.moved[:top])])


def _sides(found: Found) -> dict[str, Side]:
    return {"reference": found.reference, "stream": found.stream}


def _side(side: Side) -> dict[str, Any]:
    return {"path": str(side.path), "rows": len(side), "rows_with_error": side.with_error}


def _told_side(side: Side) -> str:
    left_out = f", {side.with_error:,} with an error left out" if side.with_error else ""
    return f"{side.path}: {len(side):,} rows{left_out}"


def _alarm(found: Found) -> dict[str, Any]:
    if found.alarm_at is None:
        return {"alarm_row": None, "alarm_id": None}
    index = found.alarm_at - 1
    return {"alarm_row": int(found.stream.rows[index]), "alarm_id": found.stream.id_of(index)}


def _told_test(found: Found) -> str:
    alarm = _alarm(found)
    highest = f"{found.scores.max():.2f}"
    budget = f"{found.budget}: threshold {found.threshold:.2f}"
    if found.alarm_at is None:
        return f"no alarm on {found.on}: at most {highest} ({budget})"
    return (
        f"ALARM on {found.on} at row {alarm['alarm_row']:,} of B (id {alarm['alarm_id']!r}), after "
        f"{found.alarm_at:,} scores; at most {highest} ({budget})"
    )


def _told_moved(one: Moved) -> str:
    head = f"{one.name:<26} {one.distance:>8.3f} {one.effect:>8.1f}  "
    if one.class_index is None:
        return head + f"{one.before:.4g} -> {one.after:.4g}"
    return head + f"class {one.class_index}: {one.before:.1%} -> {one.after:.1%}"


def _infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _check_figure(path: Path) -> None:
    """Before minutes of computing."""
    from calibration.errors import CalibrationError

    if path.suffix not in (".png", ".svg"):
        raise CalibrationError(f"--figure {path}: found {path.suffix!r}, expected .png or .svg")
    need_figures("--figure")
