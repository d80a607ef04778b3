"""The dashboard holds: its grid, its queries against the metrics, data in each of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.standing import OUTCOMES
from tests.deploy.dashboard import (
    FOLDER,
    dashboard,
    marks,
    placeholders,
    problems,
    queries,
    substituted,
    targets,
)
from tests.deploy.manifests import document
from tests.deploy.prometheus_files import CONFIG, alerts, mentioned, name_problems, recorded, run
from tests.deploy.synthetic import JOB, holds

Board = dict[str, Any]
VARIABLES = {"job": JOB, "model": "digits|letters", "rate_interval": "1m", "shown": "15m"}


@pytest.fixture
def board() -> Board:
    return dashboard()


def named(board: Board, title: str) -> dict[str, Any]:
    (panel,) = [panel for panel in board["panels"] if panel["title"] == title]
    found: dict[str, Any] = panel
    return found


def steps(panel: dict[str, Any]) -> list[float]:
    """Thresholds that a panel draws."""
    drawn = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [step["value"] for step in drawn if step["value"] is not None]


def test_the_dashboard_holds(board: Board) -> None:
    assert problems(board) == []


BROKEN: dict[str, tuple[Callable[[Board], object], str]] = {
    "a metric that is not": (
        lambda b: b["panels"][1]["targets"][0].update(expr="oodgate_up"),
        "oodgate_up is no series",
    ),
    "a label that is not": (
        lambda b: named(b, "GPU memory")["targets"][0].update(
            expr='oodgate_gpu_memory_bytes{gpu="0"}'
        ),
        "no label gpu",
    ),
    "two of one id": (lambda b: b["panels"][1].update(id=1), "id 1"),
    "panels that overlap": (lambda b: b["panels"][1]["gridPos"].update(w=4), "overlap"),
    "over the edge": (lambda b: b["panels"][-1]["gridPos"].update(w=6), "not on the screen"),
    "a data source of its own": (
        lambda b: b["panels"][1]["targets"][0]["datasource"].update(uid="prometheus"),
        "data source prometheus",
    ),
    "a query of no data source": (
        lambda b: b["panels"][1]["targets"][0].pop("datasource"),
        "data source None",
    ),
    "no legend": (lambda b: b["panels"][1]["targets"][0].pop("legendFormat"), "legend"),
    "no query": (lambda b: b["panels"][1].update(targets=[]), "no query"),
    "no word on what is bad": (lambda b: b["panels"][1].update(description="x"), "what is bad"),
    "a version that has gone": (
        lambda b: named(b, "Served")["targets"][0].update(instant=False),
        "expected instant",
    ),
    "an old schema": (lambda b: b.update(schemaVersion=17), "schemaVersion 17"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_dashboard_is_found(case: str, board: Board) -> None:
    change, said = BROKEN[case]
    change(board)
    assert any(said in problem for problem in problems(board)), problems(board)


def test_queries_parse(tmp_path: Path) -> None:
    asked = [expression for _, expression in queries(**VARIABLES)]
    rules = [{"record": f"panel:{at}", "expr": text} for at, text in enumerate(asked)]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    run("promtool", "check", "rules", path)


def test_every_query_has_data_and_the_labels_of_its_legend(board: Board, tmp_path: Path) -> None:
    shown = {
        substituted(target["expr"], **VARIABLES): placeholders(target["legendFormat"])
        for _, target in targets(board)
    }
    marked = {
        substituted(mark["expr"], **VARIABLES): placeholders(mark["titleFormat"])
        for mark in marks(board)
    }
    assert len(shown) == len(queries())
    holds(shown | marked, tmp_path)


def test_variables_and_marks_name_what_exists(board: Board) -> None:
    source, *asked = board["templating"]["list"]
    assert source["type"] == "datasource"
    assert [variable["name"] for variable in asked] == ["job", "model"]
    for variable in asked:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found is not None
        assert name_problems(f"count by ({found[2]}) ({found[1]})") == []
        assert variable["query"]["query"] == variable["definition"]
    assert [p for mark in marks(board) for p in name_problems(mark["expr"])] == []


def test_queries_put_values_in_place_of_variables() -> None:
    found = dict(queries(job="a", model="b|c", rate_interval="8s", shown="2d"))
    assert not any("$" in expression for expression in found.values())
    assert 'job="a", model=~"b|c"' in found["Predicted classes"]
    assert "[2d]" in found["Predicted classes"]
    assert "[8s]" in found["Time by stage"]
    with pytest.raises(KeyError):
        substituted("up[$__interval]", **VARIABLES)


def test_decisions_have_colours_of_their_own(board: Board) -> None:
    overrides = named(board, "Decisions")["fieldConfig"]["overrides"]
    colours = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in overrides
    }
    assert colours.keys() == {decision for decision, _ in OUTCOMES}
    assert len(set(colours.values())) == len(colours)


@pytest.mark.parametrize(
    ("title", "alert", "factor"),
    [
        ("Refused for overload", "OodgateShedding", 1.0),
        ("Time of a request", "OodgateLatencyHigh", 1.0),
        ("Errors against the budget", "OodgateErrorBudgetFast", 0.001),
    ],
)
def test_lines_are_where_alerts_begin(title: str, alert: str, factor: float, board: Board) -> None:
    """The first comparison of the alert is the highest line of the panel."""
    at = re.search(r"> ([\d.]+)", alerts()[alert]["expr"])
    assert at is not None
    assert steps(named(board, title))[-1] == pytest.approx(float(at[1]) * factor)
    assert alert in named(board, title)["description"]


def test_descriptions_name_alerts_that_exist(board: Board) -> None:
    text = " ".join(panel.get("description", "") for panel in board["panels"])
    found = set(re.findall(r"\bOodgate\w+", text))
    assert "OodgateDrift" in found
    assert found <= alerts().keys()


def test_recorded_series_are_used_where_they_exist(board: Board) -> None:
    used = {name for _, target in targets(board) for name in mentioned(target["expr"])}
    assert len(used & recorded().keys()) >= 10


def test_provisioning_leads_to_the_dashboard_and_to_prometheus() -> None:
    readme = (FOLDER / "README.md").read_text()
    (source,) = document(FOLDER / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == document(CONFIG)["global"]["scrape_interval"]
    assert f"-e {source['url'].strip('${}')}=" in readme
    (provider,) = document(FOLDER / "provisioning/dashboards/oodgate.yml")["providers"]
    folder = provider["options"]["path"]
    assert f'-v "$PWD/deploy/grafana/oodgate.json:{folder}/oodgate.json:ro"' in readme
    assert '-v "$PWD/deploy/grafana/provisioning:/etc/grafana/provisioning:ro"' in readme
