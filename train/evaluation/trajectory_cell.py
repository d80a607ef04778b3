"""The way of attacked images from the original to what is sent, as it is kept and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calibration.plain_json import plain
from train.evaluation.attack_cell import MODEL


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One image under one attack, P points: the original first, what the attack ends in last.

    ``label``: the true class, ``other``: the class ended in, where that is the true one the next
    best. ``predicted`` (P,); ``margin`` (P,): logit of ``other`` less that of ``label``, nats.

    Of the model, as served, ``rejected`` (P,) and ``excess`` (P,): S less the place from which on
    an image of the predicted class is rejected, so rejected where above 0. A baseline has no gate:
    both are empty, and ``evidence`` (P,), empty of the model, is the log of the sum of the
    exponentials of its logits, nats: lower = stranger (the negative energy of Liu et al., NeurIPS
    2020).
    """

    label: int
    other: int
    predicted: tuple[int, ...]
    margin: tuple[float, ...]
    rejected: tuple[bool, ...] = ()
    excess: tuple[float, ...] = ()
    evidence: tuple[float, ...] = ()

    @property
    def evades(self) -> bool:
        """Whether it ends as another class, and nothing rejects it."""
        turned = self.predicted[-1] != self.label
        return turned and not (self.rejected and self.rejected[-1])


@dataclass(frozen=True, kw_only=True)
class TrajectoryCell:
    """All that are followed of one attack on ``source``, by name."""

    source: str
    attack: str
    trajectories: tuple[Trajectory, ...]

    @property
    def has_gate(self) -> bool:
        """Whether these are of the model."""
        return self.source == MODEL

    def to_json(self) -> dict[str, Any]:
        """Plain data, which ``from_json`` takes."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any], n_classes: int) -> TrajectoryCell:
        """The inverse; raises ``ValueError`` for anything else, and for a class that is none."""
        try:
            ways = tuple(_parsed(one) for one in content["trajectories"])
            cell = cls(**{**content, "trajectories": ways})
        except (KeyError, TypeError, OverflowError) as error:
            raise _another(repr(error)) from error
        if not (isinstance(cell.source, str) and isinstance(cell.attack, str) and ways):
            raise _another("expected names, and at least one way")
        for one in ways:
            _check(one, n_classes, gated=cell.has_gate)
        return cell


def _parsed(content: Mapping[str, Any]) -> Trajectory:
    numbers = {
        name: tuple(map(_number, content[name])) for name in ("margin", "excess", "evidence")
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


def _check(one: Trajectory, n_classes: int, *, gated: bool) -> None:
    points = len(one.predicted)
    judged, not_judged = (points, 0) if gated else (0, points)
    classes = (one.label, one.other, *one.predicted)
    good = {
        "classes": all(type(index) is int and 0 <= index < n_classes for index in classes),
        "verdicts": all(isinstance(flag, bool) for flag in one.rejected),
        "number of points": points >= 2
        and len(one.margin) == points
        and len(one.rejected) == len(one.excess) == judged
        and len(one.evidence) == not_judged,
    }
    wrong = [name for name, fine in good.items() if not fine]
    if wrong:
        raise _another(f"found another kind of {', '.join(wrong)}")


def _another(found: str) -> ValueError:
    return ValueError(f"not a cell of this version: {found}")
