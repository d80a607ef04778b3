"""A sweep's figures as ``sweep.json`` for programs and ``sweep.md`` for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from calibration.temperature import MAX_TEMPERATURE
from model.checkpoint import write_atomic
from train.config import TrainConfig
from train.sweep_measure import Conditions, Figures, SweepRows
from train.sweep_runs import beta_word

JSON_FILE, TABLE_FILE = "sweep.json", "sweep.md"
SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All that was measured: ``base`` are the settings that the runs share, ``test`` names the
    test set, ``missing`` says of each run without figures why it has none."""

    base: TrainConfig
    test: str
    rows: SweepRows
    conditions: Conditions
    figures: Sequence[Figures]
    missing: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What the report in a folder holds: figures by the sum of their weights, what is missing."""

    figures: Mapping[str, Figures]
    missing: Mapping[str, str]


def write_report(sweep: Sweep, out: Path) -> None:
    """Write both files into ``out``."""
    write_atomic(out / JSON_FILE, (to_json(sweep) + "\n").encode())
    write_atomic(out / TABLE_FILE, to_markdown(sweep).encode())


def read_report(out: Path, conditions: Conditions) -> Earlier:
    """The report of an earlier command; its figures only where ``conditions`` are still the same
    and name the code that measured.

    Empty where there is none, or one of another version: figures can be measured again.
    """
    try:
        content = json.loads((out / JSON_FILE).read_bytes())
        if content["schema_version"] != SCHEMA_VERSION:
            return Earlier(figures={}, missing={})
        same = conditions.repeatable and content["measured"] == asdict(conditions)
        figures = [_figures(point) for point in content["points"] if same]
        missing = {str(name): str(why) for name, why in content["missing"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Earlier(figures={}, missing={})
    return Earlier(figures={f.weights_sha256: f for f in figures}, missing=missing)


def _figures(point: Mapping[str, Any]) -> Figures:
    """The inverse of ``_plain`` over all fields."""
    names = {f.name for f in fields(Figures) if "float" in str(f.type)}
    read: dict[str, Any] = {
        name: float(value) if name in names and isinstance(value, str) else value
        for name, value in point.items()
    }
    return Figures(**read)


def to_json(sweep: Sweep) -> str:
    """Valid JSON: a number that JSON has none for becomes the word "inf", "-inf" or "nan"."""
    shared = {k: v for k, v in sweep.base.to_dict().items() if k not in ("beta", "kind")}
    content = {
        "schema_version": SCHEMA_VERSION,
        "config": shared,
        "test": sweep.test,
        "rows": {
            "test": len(sweep.rows.test),
            "test_dropped": sweep.rows.dropped,
            "fit": len(sweep.rows.fit),
        },
        "measured": asdict(sweep.conditions),
        "points": [{k: _plain(v) for k, v in asdict(f).items()} for f in sweep.figures],
        "missing": dict(sweep.missing),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _temperature(value: float) -> str:
    return f"{value:.3g}" if value < MAX_TEMPERATURE else "-"


def _oce(value: float | None, count: int) -> str:
    return f"{_number(value, 2) or 'none'} ({count:,})"


def _beta(value: float | None) -> str:
    return "ResNet" if value is None else beta_word(value)


#: The table's columns, in order: heading, and the cell of a run.
COLUMNS: dict[str, Callable[[Figures], str]] = {
    "beta": lambda f: _beta(f.beta),
    "beta D": lambda f: "" if f.beta_times_dim is None else f"{f.beta_times_dim:,.9g}",
    "accuracy %": lambda f: _number(f.accuracy, 2),
    "bits/dim": lambda f: _number(f.bits_per_dim, 3),
    "L_X": lambda f: _number(f.l_x, 3),
    "L_Y": lambda f: _number(f.l_y, 3),
    "OCE": lambda f: _oce(f.oce, f.oce_count),
    "OCE at T = 1": lambda f: _oce(f.raw_oce, f.raw_oce_count),
    "ECE %": lambda f: _number(100 * f.ece, 2),
    "ECE % at T = 1": lambda f: _number(100 * f.raw_ece, 2),
    "T": lambda f: _temperature(f.temperature),
    "seconds": lambda f: _number(f.seconds, 1),
    "images/s": lambda f: _number(f.images_per_s, 0),
}

LEGEND = """\
L_X: nats per dimension, the Gaussian's constant dropped; L_Y: cross-entropy in nats an image, at
T = 1. OCE: error rate among predictions with confidence of at least 99.7%, over 0.3%, and how many
those are. ECE: 15 bins of equal mass. T: temperature, fitted on rows held out of training for
that; a dash where none is high enough, for the logits say nothing of the class there. D: dimensions
of an image. seconds, images/s: of training, on a machine that may have been shared. beta 0 learns
without labels. The ResNet has no density.
"""


def to_markdown(sweep: Sweep) -> str:
    """The table with what it was measured on, and what the columns mean."""
    base, rows = sweep.base, sweep.rows
    lines = [
        f"# Accuracy and density over beta: recipe {base.recipe}",
        "",
        f"Trained on {base.data} for {base.epochs} epochs, seed {base.seed}, one run a row. "
        f"Measured on the {len(rows.test):,} rows of {sweep.test} that no run has seen "
        f"({rows.dropped:,} dropped: equal to a row of {base.data}){_standard_error(sweep)}.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " ---: |" * len(COLUMNS),
        *("| " + " | ".join(cell(f) for cell in COLUMNS.values()) + " |" for f in sweep.figures),
        "",
        *(f"{name} is missing: {why}\n" for name, why in sweep.missing.items()),
        _measured(sweep),
        "",
    ]
    return "\n".join(lines) + "\n" + LEGEND


def _measured(sweep: Sweep) -> str:
    c = sweep.conditions
    return (
        f"Measured on {c.device} with {c.threads} thread{'s'[: c.threads > 1]}, torch {c.torch}, "
        f"git commit {c.git_commit or 'unknown'}; SHA-256 of the test rows {c.test_sha256}."
    )


def _standard_error(sweep: Sweep) -> str:
    """That of a share among so many rows; it says nothing of other seeds."""
    shares = [figures.accuracy / 100 for figures in sweep.figures]
    if not shares:
        return ""
    largest = max(math.sqrt(share * (1 - share) / len(sweep.rows.test)) for share in shares)
    return f"; standard error of the accuracy over test rows at most {100 * largest:.2f} points"
