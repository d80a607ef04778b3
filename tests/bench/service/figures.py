"""A figure of the benchmark: what was asked for, what the rounds gave, and one table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.pairs import Spread


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``asked`` and ``aim``: bounds from below, or where ``most`` from above."""

    asked: float
    aim: float
    most: bool = False

    def met(self, value: float) -> str:
        """In a word, for the table."""
        sign = -1 if self.most else 1
        if sign * value >= sign * self.aim:
            return "aim"
        return "yes" if sign * value >= sign * self.asked else "NO"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """``spread`` of what the rounds gave, in ``unit``; ``sides``: absolute figures of this run."""

    title: str
    unit: str
    goal: Goal | None
    rounds: tuple[float, ...]
    sides: Mapping[str, Spread]
    note: str = ""

    @property
    def spread(self) -> Spread:
        return Spread.of(list(self.rounds))

    @property
    def met(self) -> str:
        return self.goal.met(self.spread.median) if self.goal else ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "spread": asdict(self.spread), "met": self.met}

    def __str__(self) -> str:
        return "\n".join(["", table([self]), *(_side(name, s) for name, s in self.sides.items())])


def table(figures: Sequence[Figure]) -> str:
    """Asked, measured and spread, a line each."""
    width = max(48, *(len(figure.title) for figure in figures))
    lines = [f"{'':{width}} {'asked':>7} {'aim':>7} {'measured':>9} {'range of rounds':>18}  met"]
    for figure in figures:
        goal, spread, unit = figure.goal, figure.spread, figure.unit
        asked, aim = (_number(v, unit) for v in (goal.asked, goal.aim)) if goal else ("", "")
        between = f"{spread.low:.2f} to {spread.high:.2f}"
        lines.append(
            f"{figure.title:{width}} {asked:>7} {aim:>7} {_number(spread.median, unit):>9} "
            f"{between:>18}  {figure.met}"
        )
        lines += [f"  ({figure.note})"] if figure.note else []
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    return f"{value:.2f}{unit}"


def _side(name: str, spread: Spread) -> str:
    return f"    {name}: {spread.median:.1f} ({spread.low:.1f} to {spread.high:.1f})"
