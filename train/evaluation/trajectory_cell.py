"""The way of attacked images from the original to what is sent, as it is kept and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calibration.plain_json import plain
from train.evaluation.attack_cell import MODEL


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One image under one attack, P points: the original first, what the attack ends in last.

    ``label``: the true class, ``other``: the class ended in, where that is the true one the next
    best. ``predicted`` (P,); ``margin`` (P,): logit of ``other`` less that of ``label``, nats;
    ``confidence`` (P,): posterior of the predicted class. Of the model, as served, ``rejected``
    (P,) and ``excess`` (P,): S less the place from which on an image of the predicted class is
    rejected, so rejected where above 0; a baseline has no gate, and both are empty.
    """

    label: int
    other: int
    predicted: tuple[int, ...]
    margin: tuple[float, ...]
    confidence: tuple[float, ...]
    rejected: tuple[bool, ...] = ()
    excess: tuple[float, ...] = ()

    @property
    def evades(self) -> bool:
        """Whether it ends as another class, and nothing rejects it."""
        return self.predicted[-1] != self.label and not any(self.rejected[-1:])


@dataclass(frozen=True, kw_only=True)
class TrajectoryCell:
    """All that are followed of one attack on ``source``, by name."""

    source: str
    attack: str
    trajectories: tuple[Trajectory, ...]

    @property
    def has_gate(self) -> bool:
        """Whether there is one to be let in by."""
        return self.source == MODEL

    def to_json(self) -> dict[str, Any]:
        """Plain data, which ``from_json`` takes."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrajectoryCell:
        """The inverse; raises ``ValueError`` for anything else."""
        try:
            ways = tuple(_parsed(one) for one in content["trajectories"])
            cell = cls(**{**content, "trajectories": ways})
        except (KeyError, TypeError) as error:
            raise _another(repr(error)) from error
        if not (isinstance(cell.source, str) and isinstance(cell.attack, str)):
            raise _another("found no names")
        for one in ways:
            _check(one, gated=cell.has_gate)
        return cell


def _parsed(content: Mapping[str, Any]) -> Trajectory:
    numbers = {
        name: tuple(map(_number, content[name])) for name in ("margin", "confidence", "excess")
    }
    listed = {name: tuple(content[name]) for name in ("predicted", "rejected")}
    return Trajectory(**{**content, **numbers, **listed})


def _number(value: Any) -> float:
    """One of ``plain``, which says in words what JSON has no number for."""
    if isinstance(value, str):
        if value not in ("inf", "-inf", "nan"):
            raise _another(f"found {value!r}, expected a number")
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise _another(f"found {value!r}, expected a number")
    return float(value)


def _check(one: Trajectory, *, gated: bool) -> None:
    points = len(one.predicted)
    judged = points if gated else 0
    classes = (one.label, one.other, *one.predicted)
    good = {
        "classes": all(type(index) is int and index >= 0 for index in classes),
        "verdicts": all(isinstance(flag, bool) for flag in one.rejected),
        "number of points": points >= 2
        and len(one.margin) == len(one.confidence) == points
        and len(one.rejected) == len(one.excess) == judged,
        "confidence": all(0 <= p <= 1 or math.isnan(p) for p in one.confidence),
    }
    wrong = [name for name, fine in good.items() if not fine]
    if wrong:
        raise _another(f"found another kind of {', '.join(wrong)}")


def _another(found: str) -> ValueError:
    return ValueError(f"not a cell of this version: {found}")
