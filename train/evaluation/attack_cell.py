"""What one attack came to, as it is kept on the way and told in a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from calibration.detection import Rate

#: The source of what is measured of the model under evaluation; a baseline's is its name.
MODEL = "model"

_RATES = ("wrong", "detected", "evaded")


@dataclass(frozen=True, kw_only=True)
class AttackCell:
    """``source``: the model or a baseline. Of ``images`` attacked: ``wrong``, another class than
    the true one; ``detected``, of the wrong ones rejected; ``evaded``, wrong and let in; of
    strangers ``evaded`` alone has a meaning: let in. ``auroc`` of the gate's score, attacked
    against as they were. ``l2``: mean over hits, pixels in [0, 1]. A baseline has no gate.

    Image by image, in the order of all that were chosen: ``let_in``, which of them ``evaded``
    counts; ``moved``, the l2 of each hit, None for any other and where it was not attacked.
    """

    source: str
    attack: str
    images: int
    wrong: Rate
    detected: Rate | None
    evaded: Rate | None
    auroc: float | None
    l2: float | None
    seconds: float
    let_in: tuple[bool, ...] = ()
    moved: tuple[float | None, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, which ``from_json`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> AttackCell:
        """The inverse; raises ``ValueError`` for anything else."""
        try:
            rates = {name: _rate(content[name]) for name in _RATES}
            lists = {name: tuple(content[name]) for name in ("let_in", "moved")}
            cell = cls(**{**content, **rates, **lists})
        except (KeyError, TypeError) as error:
            raise _another(repr(error)) from error
        cell._check()
        return cell

    def _check(self) -> None:
        numbers = (self.auroc, self.l2, *self.moved)
        good = {
            "source": isinstance(self.source, str),
            "attack": isinstance(self.attack, str),
            "images": isinstance(self.images, int),
            "wrong": self.wrong is not None,
            "seconds": isinstance(self.seconds, float),
            "let_in": all(isinstance(flag, bool) for flag in self.let_in),
            "auroc, l2 or moved": all(one is None or isinstance(one, float) for one in numbers),
            "number of flags": len(self.let_in) in (0, self.images),
        }
        wrong = [name for name, fine in good.items() if not fine]
        if wrong:
            raise _another(f"found another kind of {', '.join(wrong)}")


def _rate(content: Any) -> Rate | None:
    if content is None:
        return None
    rate = Rate(**content)
    kinds = {"count": int, "total": int, "low": float, "high": float, "share": float | None}
    wrong = [f.name for f in fields(Rate) if not isinstance(getattr(rate, f.name), kinds[f.name])]
    if wrong:
        raise _another(f"found another kind of {', '.join(wrong)} in {content}")
    return rate


def _another(found: str) -> ValueError:
    return ValueError(f"not a cell of this version: {found}")
