"""The dashboard of ``deploy/grafana``: its queries, and what is wrong with it, without Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from tests.deploy.manifests import ROOT
from tests.deploy.prometheus_files import name_problems

FOLDER = ROOT / "deploy" / "grafana"
PATH = FOLDER / "oodgate.json"

#: Grafana's grid.
COLUMNS = 24
#: Rows of the grid that a screen of 1080 pixels shows.
SCREEN = 28

Panel = Mapping[str, Any]


def dashboard() -> dict[str, Any]:
    """As it is committed."""
    found: dict[str, Any] = json.loads(PATH.read_text())
    return found


def queries(
    job: str = "oodgate", model: str = ".+", rate_interval: str = "1m", shown: str = "1h"
) -> list[tuple[str, str]]:
    """(title of the panel, PromQL) of all panels, with these in place of Grafana's variables.

    ``model``: a regular expression; ``shown``: the time that the dashboard shows. "GPU memory" has
    data with a GPU alone.
    """
    return [
        (panel["title"], substituted(target["expr"], job, model, rate_interval, shown))
        for panel, target in targets(dashboard())
    ]


def substituted(expression: str, job: str, model: str, rate_interval: str, shown: str) -> str:
    """An expression without variables; raises ``KeyError`` for one that Grafana would not know."""
    values = {"job": job, "model": model, "__rate_interval": rate_interval, "__range": shown}
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found[1]], expression)


def targets(board: Mapping[str, Any]) -> Iterator[tuple[Panel, Mapping[str, Any]]]:
    """Each query, with the panel it is of."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel, target


def marks(board: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What is marked on all panels."""
    found: list[Mapping[str, Any]] = board["annotations"]["list"]
    return found


def placeholders(legend: str) -> tuple[str, ...]:
    """Labels that a legend shows."""
    return tuple(re.findall(r"\{\{(\w+)\}\}", legend))


def problems(board: Mapping[str, Any]) -> list[str]:
    """What Grafana, or a reader, could not make sense of; empty if all holds."""
    return [*_board_problems(board), *_grid_problems(board), *_query_problems(board)]


def _board_problems(board: Mapping[str, Any]) -> Iterator[str]:
    if not board.get("uid") or not board.get("title"):
        yield "no uid or title: a provisioned dashboard is known by them"
    if not 36 <= board.get("schemaVersion", 0) <= 42:
        yield f"schemaVersion {board.get('schemaVersion')}: expected that of Grafana 9 to 12"
    if "id" in board:
        yield "an id: it is Grafana's own to give"
    ids = [panel["id"] for panel in board["panels"]]
    yield from (f"id {id} of several panels" for id in {id for id in ids if ids.count(id) > 1})
    yield from (f"data source {uid}: expected the variable" for uid in set(_fixed_sources(board)))
    for panel in board["panels"]:
        if panel["type"] != "row" and "bad: " not in panel.get("description", ""):
            yield f"{panel['title']}: does not say what is bad"


def _fixed_sources(node: Any) -> Iterator[str]:
    """Data sources anywhere that are not the variable's, and queries that have none."""
    if isinstance(node, Mapping):
        if "datasource" in node or "expr" in node:
            uid = node.get("datasource", {}).get("uid")
            if uid != "${datasource}":
                yield str(uid)
        yield from (found for value in node.values() for found in _fixed_sources(value))
    elif isinstance(node, list):
        yield from (found for value in node for found in _fixed_sources(value))


def _grid_problems(board: Mapping[str, Any]) -> Iterator[str]:
    cells: dict[str, set[tuple[int, int]]] = {}
    for panel in board["panels"]:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        if min(x, y) < 0 or min(w, h) < 1 or x + w > COLUMNS or y + h > SCREEN:
            yield f"{panel['title']}: not on the screen of {COLUMNS} by {SCREEN}"
        cells[panel["title"]] = {(x + i, y + j) for i in range(w) for j in range(h)}
    if len(cells) < len(board["panels"]):
        yield "two panels of one title"
    for (one, its), (other, others) in combinations(cells.items(), 2):
        if its & others:
            yield f"{one} and {other} overlap"


def _query_problems(board: Mapping[str, Any]) -> Iterator[str]:
    for panel in board["panels"]:
        if panel["type"] != "row" and not panel.get("targets"):
            yield f"{panel['title']}: no query"
        refs = [target.get("refId") for target in panel.get("targets", ())]
        if len(set(refs)) < len(refs):
            yield f"{panel['title']}: two queries of one refId"
    for panel, target in targets(board):
        title, expression = panel["title"], target.get("expr", "")
        yield from (f"{title}: {problem}" for problem in name_problems(expression))
        if not target.get("legendFormat"):
            yield f"{title}: a query without a legend"
        if panel["type"] != "timeseries" and not target.get("instant"):
            yield f"{title}: would show the last value of what has gone; expected instant"
        if ("$__range" in expression) != bool(target.get("instant")) and "[" in expression:
            yield f"{title}: a range of $__range belongs to an instant query, and only there"
