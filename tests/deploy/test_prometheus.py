"""Rules and alerts hold: promtool's tests, names that exist, runbooks, and bounds that are kept."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import INTERNAL, OK, OVERLOADED, TABLE
from service.metrics import P_VALUE
from service.standing import OUTCOMES
from tests.deploy.manifests import document
from tests.deploy.prometheus_bound import clean_distances, false_alarm, formula
from tests.deploy.prometheus_files import (
    ALERTMANAGER,
    ALERTS,
    CONFIG,
    FOLDER,
    RULES,
    TESTS,
    alerts,
    declared,
    groups,
    matchers,
    mentioned,
    name_problems,
    recorded,
    rules,
    run,
)
from tests.deploy.synthetic import holds

README = (FOLDER / "README.md").read_text()
EXPRESSIONS = {rule.get("record", rule.get("alert")): rule["expr"] for rule in rules(RULES)} | {
    name: rule["expr"] for name, rule in alerts().items()
}
UNIFORM = "le:oodgate_p_value:uniform"


@pytest.fixture(scope="module")
def tested() -> Iterator[dict[Path, Future[str]]]:
    """promtool's tests of every file at once: they take seconds, each on one core."""
    with ThreadPoolExecutor() as pool:
        yield {path: pool.submit(run, "promtool", "test", "rules", path) for path in TESTS}


def cases() -> list[dict[str, Any]]:
    return [case for path in TESTS for case in document(path)["tests"]]


def anchors(text: str) -> set[str]:
    """What headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_configuration_holds() -> None:
    run("promtool", "check", "config", CONFIG)


@pytest.mark.parametrize("path", [RULES, ALERTS], ids=lambda path: path.name)
def test_rules_parse(path: Path) -> None:
    run("promtool", "check", "rules", path)


def test_alertmanager_holds() -> None:
    run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_alerts_do_what_they_say(path: Path, tested: dict[Path, Future[str]]) -> None:
    tested[path].result()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_every_group_has_its_place_in_a_test(path: Path) -> None:
    order = document(path)["group_eval_order"]
    assert order == [group["name"] for file in (RULES, ALERTS) for group in groups(file)]


@pytest.mark.parametrize("name", alerts())
def test_every_alert_is_tested_firing_and_silent(name: str) -> None:
    checks = [check for case in cases() for check in case.get("alert_rule_test", [])]
    firing = {bool(check.get("exp_alerts")) for check in checks if check["alertname"] == name}
    assert firing == {True, False}


@pytest.mark.parametrize("name", alerts())
def test_every_alert_says_what_to_do(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description"} <= alert["annotations"].keys()
    path, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert path == "deploy/prometheus/README.md"
    assert anchor == name.lower()
    runbook = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", README, flags=re.MULTILINE | re.DOTALL)
    assert runbook is not None
    assert re.findall(r"^\*(.+?):\*", runbook[1], flags=re.MULTILINE)[:3] == [
        "Means",
        "Look at",
        "Do",
    ]


def test_the_runbook_has_no_alert_that_is_gone() -> None:
    assert set(re.findall(r"\b(Oodgate[A-Z]\w+)", README)) <= alerts().keys()
    assert re.findall(r"^### (.+)$", README, flags=re.MULTILINE) == list(alerts())


def test_the_alertmanager_knows_the_alerts() -> None:
    named = re.findall(r'alertname !?= "(\w+)"', ALERTMANAGER.read_text())
    assert named
    assert set(named) <= alerts().keys()


@pytest.mark.parametrize("name", [name for name in EXPRESSIONS if name != UNIFORM])
def test_expressions_name_what_exists(name: str) -> None:
    assert name_problems(EXPRESSIONS[name]) == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("oodgate_request_total", "oodgate_request_total is no series"),
        ("oodgate_p_value", "oodgate_p_value is no series"),
        ("job:oodgate_shed:ratio_rate1m > 1", "job:oodgate_shed:ratio_rate1m is no series"),
        ('oodgate_shed_total{code="ok"}', "oodgate_shed_total has no label code"),
        ('oodgate_p_value_count{le="0.1"}', "oodgate_p_value_count has no label le"),
        ('job:oodgate_requests:rate5m{code="ok"}', "job:oodgate_requests:rate5m has no label code"),
        ("sum by (model) (oodgate_shed_total)", "no series has the label model"),
        ("oodgate_shed_total > 1 and rates[5m]", "rates is no series"),
        ("vector(1)", "no series in vector(1)"),
    ],
)
def test_names_that_do_not_exist_are_found(expression: str, fault: str) -> None:
    assert name_problems(expression) == [fault]


def test_promtool_is_fed_what_exists() -> None:
    fed = [found["series"] for case in cases() for found in case["input_series"]]
    asked = [check["expr"] for case in cases() for check in case.get("promql_expr_test", [])]
    assert [problem for text in (*fed, *asked) for problem in name_problems(text)] == []


def test_values_in_expressions_are_values_that_occur() -> None:
    occur = {
        "code": {OK, INTERNAL.code, OVERLOADED.code, *(status.code for _, status in TABLE)},
        "decision": {decision for decision, _ in OUTCOMES},
    }
    found = [
        (label, value)
        for text in EXPRESSIONS.values()
        for _, label, values in matchers(text)
        for value in values.split("|")
        if label in occur
    ]
    assert {label for label, _ in found} == occur.keys()
    assert [(label, value) for label, value in found if value not in occur[label]] == []


def test_the_readme_names_what_exists() -> None:
    assert [name for name in mentioned(README) if name not in every_name()] == []


def every_name() -> set[str]:
    """Series, and histograms as a whole."""
    return declared().keys() | {name.removesuffix("_bucket") for name in declared()}


def test_every_recorded_series_has_data_and_the_labels_of_its_name(tmp_path: Path) -> None:
    holds({name: tuple(sorted(declared()[name])) for name in recorded()}, tmp_path)


def test_the_uniform_is_at_the_bounds_of_the_histogram() -> None:
    uniform = recorded()[UNIFORM]
    found = re.findall(r'vector\(([\d.]+)\), "le", "([\d.]+)"', uniform)
    assert [label for _, label in found] == [str(float(bound)) for bound in P_VALUE.bounds or ()]
    assert [float(value) for value, _ in found] == list(P_VALUE.bounds or ())


def test_both_windows_are_of_one_formula() -> None:
    short = {name: text for name, text in recorded().items() if name.endswith("10m")}
    both = {name.replace("10m", "6h"): text.replace("10m", "6h") for name, text in short.items()}
    long = {name: text for name, text in recorded().items() if name in both}
    assert len(long) == 10
    assert long == {name: both[name] for name in long}


def test_clean_traffic_keeps_to_the_bound_of_rejections() -> None:
    """P(ratio > bound) < 1e-4, exactly, of what the README promises it for."""
    bound = formula("job_model:oodgate_decisions:reject_bound", "10m")
    worst = max(
        (false_alarm(m, n, rank, bound(m, n, rank / (n + 1))), m, n, rank)
        for n in (100, 300, 1000, 5000, 50_000)
        for rank in sorted({1, 2, 4, 8, 20, *np.geomspace(1, n / 5, 6).astype(int).tolist()})
        if rank <= n / 5
        for m in (100, 300, 1000, 10_000, 100_000, 1_000_000)
    )
    assert worst[0] < 1e-4, worst


def test_the_bound_is_what_the_readme_says_it_is() -> None:
    bound = formula("job_model:oodgate_decisions:reject_bound", "10m")
    said = [bound(m, 5000, 225 / 5001) for m in (100, 1000, 1_000_000)]
    assert said == pytest.approx([0.15, 0.077, 0.058], rel=0.02)


def test_clean_traffic_keeps_to_the_allowance_of_distances() -> None:
    """P(distance > allowance) <= 1%; of 1,000 runs at most 20, which has probability 0.998."""
    allowance = formula("job_model:oodgate_p_value:ks_allowance", "10m")
    for n, m in itertools.product((200, 2000), (100, 3000)):
        assert (clean_distances(m, n, runs=1000) > allowance(m, n, 0)).sum() <= 20
