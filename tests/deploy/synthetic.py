"""Every series that ``service/metrics.py`` declares, as promtool's tests feed them.

Values are invented. Two Ray clusters and two models, so that an expression fails whose sides match
many to many.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.metrics import SPECS, Spec
from tests.deploy.prometheus_files import ALERTS, RULES, run

JOB = "oodgate"
MINUTES = 20
SCRAPES_PER_MINUTE = 4

VALUES: Mapping[str, tuple[str, ...]] = {
    "protocol": ("http", "grpc"),
    "code": ("ok", "internal", "overloaded", "not_an_image"),
    "model": ("digits", "letters"),
    "name": ("digits", "letters"),
    "version": ("1",),
    "decision": ("accept", "abstain", "reject"),
    "reason": ("none",),
    "class_label": tuple("0123456789ab"),
    "stage": ("decode", "queue", "forward", "gate"),
    "outcome": ("swapped", "refused", "scored"),
    "live": ("accept",),
    "shadow": ("accept",),
    "same_class": ("true",),
    "statistic": ("score", "log_prob", "margin", "entropy", "energy", "predicted_class"),
}


def holds(expressions: Mapping[str, tuple[str, ...]], folder: Path) -> None:
    """Fail unless each expression has series at the end, each of its labels filled in some of them.

    ``expressions``: each with the labels that it has to have. ``folder`` is written to.
    """
    tests = {
        "rule_files": [str(RULES), str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": f"{60 // SCRAPES_PER_MINUTE}s",
                "input_series": [{"series": s, "values": v} for s, v in _series()],
                "promql_expr_test": [
                    {
                        "expr": found,
                        "eval_time": f"{MINUTES}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                    for expression, labels in expressions.items()
                    for found in _found(expression, labels)
                ],
            }
        ],
    }
    path = folder / "synthetic.yml"
    path.write_text(json.dumps(tests))
    run("promtool", "test", "rules", path)


def _found(expression: str, labels: tuple[str, ...]) -> Iterator[str]:
    """1 where there is data, and 1 for each label that some series has: vector(1) has none."""
    yield f"count({expression}) > bool 0"
    for label in labels:
        filled = f"group by ({label}) ({expression}) unless on ({label}) vector(1)"
        yield f"count({filled}) > bool 0"


def _series() -> Iterator[tuple[str, str]]:
    """(series, values); a bucket counts one more a scrape than the one below."""
    samples = MINUTES * SCRAPES_PER_MINUTE
    for instance in ("a:8000", "b:8000"):
        yield f'up{{job="{JOB}", instance="{instance}"}}', f"1+0x{samples}"
        for spec in SPECS:
            for values in itertools.product(*(VALUES[label] for label in spec.labels)):
                own = dict(zip(spec.labels, values, strict=True))
                labels = {"job": JOB, "instance": instance} | own
                for suffix, more, a_scrape in _parts(spec):
                    rate = f"0.5+0x{samples}" if spec.gauge else f"0+{a_scrape}x{samples}"
                    yield f"{spec.name}{suffix}{_braces(labels | more)}", rate


def _parts(spec: Spec) -> Iterator[tuple[str, dict[str, str], int]]:
    """Suffix, labels and growth of the series that one metric is."""
    if spec.bounds is None:
        yield "", {}, 1
        return
    for a_scrape, bound in enumerate((*map(str, map(float, spec.bounds)), "+Inf"), start=1):
        yield "_bucket", {"le": bound}, a_scrape
    yield "_count", {}, len(spec.bounds) + 1
    yield "_sum", {}, 1


def _braces(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
