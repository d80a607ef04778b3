"""What ``deploy/prometheus`` says, and the names in its PromQL against ``service/metrics.py``.

Expressions are parsed by promtool alone. What it cannot know is found here by pattern: whether a
metric exists, and has a label. Not covered: which metric of an expression a label of ``by`` and
``on`` belongs to.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from service.metrics import SPECS
from tests.deploy.manifests import ROOT, document

FOLDER = ROOT / "deploy" / "prometheus"
RULES, ALERTS = FOLDER / "rules.yml", FOLDER / "alerts.yml"
CONFIG, ALERTMANAGER = FOLDER / "prometheus.yml", FOLDER / "alertmanager.yml"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))

#: Commands, and the Debian package that has each.
PACKAGES = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}

#: Labels that Prometheus itself gives to whatever it scrapes.
TARGET = frozenset({"job", "instance"})

_OURS = re.compile(r"(?<![\w:])(?:\w+:)?oodgate_\w+(?::\w+)*")
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_LISTED = re.compile(r"\b(?:by|on|group_left|ignoring|without)\s*\(([^)]*)\)")
_INSIDE = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]')
_CALLED = re.compile(r"(?<![\w:])\w+\s*(?=\()")
_WORDS = {"and", "or", "unless", "bool", "offset"}


def run(tool: str, *arguments: object) -> str:
    """Output of a command; fails the test where it fails, skips it where there is none."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}: apt-get install {PACKAGES[tool]}")
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{tool} {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def groups(path: Path) -> list[dict[str, Any]]:
    """Groups of rules of a file."""
    found: list[dict[str, Any]] = document(path)["groups"]
    return found


def rules(path: Path) -> list[dict[str, Any]]:
    """All rules of a file."""
    return [rule for group in groups(path) for rule in group["rules"]]


def recorded() -> dict[str, str]:
    """Expression of each recorded series."""
    return {rule["record"]: rule["expr"] for rule in rules(RULES)}


def alerts() -> dict[str, dict[str, Any]]:
    """Each alert by its name."""
    return {rule["alert"]: rule for rule in rules(ALERTS)}


@cache
def declared() -> Mapping[str, frozenset[str]]:
    """Labels of each series there is; the name of a recorded one begins with them."""
    found = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "model", "protocol"}}
    for spec in SPECS:
        labels = TARGET.union(spec.labels)
        if spec.bounds is None:
            found[spec.name] = labels
        else:
            found |= {f"{spec.name}_{part}": labels for part in ("count", "sum")}
            found[f"{spec.name}_bucket"] = labels | {"le"}
    return found | {name: frozenset(name.split(":")[0].split("_")) for name in recorded()}


def matchers(text: str) -> Iterator[tuple[str, str, str]]:
    """(series, label, value) of each matcher in an expression."""
    for name, inside in _SELECTOR.findall(text):
        for label, value in _MATCHER.findall(inside):
            yield name, label, value


def series(expression: str) -> list[str]:
    """Names of the series in an expression: whatever is no matcher, range, label or function."""
    bare = _CALLED.sub(" ", _LISTED.sub(" ", _INSIDE.sub(" ", expression)))
    names = re.findall(r"(?<![\w:.])[A-Za-z_:][\w:]*", bare)
    return [name for name in names if name not in _WORDS]


def mentioned(prose: str) -> list[str]:
    """Names of oodgate's own series in prose."""
    return _OURS.findall(prose)


def name_problems(expression: str) -> list[str]:
    """Series that nobody exposes or records, and labels that they do not have; empty if none."""
    used = series(expression)
    unknown = [name for name in used if name not in declared()]
    if unknown or not used:
        return [f"{name} is no series" for name in unknown] or [f"no series in {expression}"]
    problems = [
        f"{name} has no label {label}"
        for name, label, _ in matchers(expression)
        if label not in declared()[name]
    ]
    anywhere = frozenset[str]().union(*(declared()[name] for name in used))
    listed = set(re.findall(r"\w+", " ".join(_LISTED.findall(expression))))
    return problems + [f"no series has the label {label}" for label in sorted(listed - anywhere)]
