"""The table: asked, aim, measured, range, and whether the median meets them."""

from __future__ import annotations

import json

import pytest

from tests.bench.pairs import Spread
from tests.bench.service.figures import Figure, Goal, table


def figure(*rounds: float, goal: Goal | None = None) -> Figure:
    return Figure(
        title="ours over theirs", unit="x", goal=goal, rounds=rounds, sides={"a": Spread.of([1.0])}
    )


@pytest.mark.parametrize(
    ("value", "most", "expected"),
    [
        (3.0, False, "aim"),
        (2.0, False, "yes"),
        (0.9, False, "NO"),
        (0.9, True, "aim"),
        (2.0, True, "yes"),
        (3.1, True, "NO"),
    ],
)
def test_a_goal_is_a_bound_from_below_or_above(value: float, most: bool, expected: str) -> None:
    goal = Goal(asked=3.0, aim=1.0, most=True) if most else Goal(asked=1.0, aim=3.0)
    assert goal.met(value) == expected


def test_the_median_decides() -> None:
    assert figure(0.5, 1.2, 9.0, goal=Goal(asked=1.0, aim=3.0)).met == "yes"
    assert figure(0.5).met == ""


def test_the_table_has_a_line_for_each_figure() -> None:
    lines = table([figure(0.5, 1.25, 9.0, goal=Goal(asked=1.0, aim=3.0)), figure(2.0)]).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == (
        ["ours", "over", "theirs", "1.00x", "3.00x", "1.25x", "0.50", "to", "9.00", "yes"]
    )
    assert lines[2].split() == ["ours", "over", "theirs", "2.00x", "2.00", "to", "2.00"]


def test_a_figure_is_kept_with_its_rounds() -> None:
    found = json.loads(json.dumps(figure(1.0, 2.0, 4.0).to_dict()))
    assert found["rounds"] == [1.0, 2.0, 4.0]
    assert found["spread"] == {"median": 2.0, "low": 1.0, "high": 4.0}
