"""What attacks come to in short, and what of it is bad news: success, and signs that an attack did
not find what there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from calibration.arrays import BoolArray
from calibration.detection import Rate, share_of
from train.evaluation.attack_cell import MODEL, AttackCell
from train.evaluation.attack_plan import ADAPTIVE, PLAIN, QUERIES, Budget
from train.evaluation.findings import percent
from train.evaluation.tables import DASH

#: Success of attacks in balls of up to ``SMALL`` 8-bit levels from which on it is bad news.
MUCH, SMALL = 0.5, 8
#: Success from random places in the largest ball below which it is, and how far it may fall while
#: balls grow.
NEARLY_ALL, FALL = 0.95, 0.1

#: What was looked for.
CHECKED = (
    f"Looked for: balls of up to {SMALL}/255 in which attacks succeed on half of the "
    "images or more; and signs of gradients that lead nowhere, so that more could be done: "
    "an attack from random places that succeeds less often in a larger ball, or in the largest "
    "not on nearly all."
)


def in_short(by_name: dict[tuple[str, str], AttackCell], budget: Budget) -> tuple[str, ...]:
    """Plain attacks beside all, in two balls."""
    said = []
    for eps in (2.0, 8.0):
        plain = by_name.get((MODEL, f"PGD linf {eps:g}"))
        together = within(by_name, budget, "linf", eps)
        if plain and together:
            said.append(
                f"Attacks at {eps:g}/255: of a plain one the gate finds {share(plain.detected)}; "
                f"all together, those that know the gate too, succeed on {share(together)}."
            )
    return tuple(said)


def within(
    by_name: dict[tuple[str, str], AttackCell], budget: Budget, norm: str, eps: float
) -> Rate | None:
    """Of the images, those that any attack within a ball let in as another class: an attack of a
    larger ball may fail where one of a smaller has found its way."""
    found = [
        by_name[MODEL, a.name].let_in
        for a in budget.attacks
        if a.kind in (PLAIN, ADAPTIVE, QUERIES) and a.norm == norm and a.eps <= eps
    ]
    if not found:
        return None
    let_in: BoolArray = np.logical_or.reduce(np.array(found, dtype=np.bool_))
    return share_of(let_in)


def bad_news(by_name: dict[tuple[str, str], AttackCell], budget: Budget) -> tuple[str, ...]:
    """What ``CHECKED`` was found, one sentence each."""
    balls = sorted({a.eps for a in budget.attacks if a.kind == ADAPTIVE and a.norm == "linf"})
    rates = {eps: within(by_name, budget, "linf", eps) for eps in balls if eps <= SMALL}
    worries = [
        f"Attacks at {eps:g}/255 succeed on {share(rate)} of images."
        for eps, rate in rates.items()
        if rate and (rate.share or 0.0) >= MUCH
    ]
    return (*worries, *_led_nowhere(by_name, budget))


def _led_nowhere(by_name: dict[tuple[str, str], AttackCell], budget: Budget) -> Iterator[str]:
    """Signs that attacks from random places do not find what there is: one that begins at an image
    of another class succeeds in a large ball without any gradient."""
    attacks = [a for a in budget.attacks if (a.kind, a.norm) == (ADAPTIVE, "linf")]
    for method in dict.fromkeys(a.method for a in attacks if not a.from_another):
        own = sorted((a for a in attacks if a.method == method), key=lambda a: a.eps)
        found = [(a.eps, evaded(by_name[MODEL, a.name])) for a in own]
        for (small, before), (large, after) in pairwise(found):
            if after < before - FALL:
                yield (
                    f"{method} succeeds on {percent(before)} at {small:g}/255 and on "
                    f"{percent(after)} at {large:g}/255: read both as lower bounds."
                )
    largest = max((a for a in attacks if not a.from_another), key=lambda a: a.eps, default=None)
    reached = evaded(by_name[MODEL, largest.name]) if largest else 1.0
    if largest and reached < NEARLY_ALL:
        yield (
            f"{largest.method} from random places succeeds on {percent(reached)} only at "
            f"{largest.eps:g}/255: read the smaller balls as lower bounds."
        )


def evaded(cell: AttackCell) -> float:
    """Its success, 0 where there is none to speak of."""
    return cell.evaded.share or 0.0 if cell.evaded else 0.0


def share(rate: Rate | None) -> str:
    """As a table has it."""
    return DASH if rate is None else percent(rate.share)
