"""The part of a report that is of attacks: every detection beside what an adaptive attack makes of
it, the claim that may be made, and images on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from calibration.detection import Rate
from train.evaluation.attack_cell import MODEL, AttackCell
from train.evaluation.attack_findings import CHECKED, bad_news, evaded, in_short, share, within
from train.evaluation.attack_nearby import nearby_blocks, nearby_files
from train.evaluation.attack_plan import (
    ADAPTIVE,
    PLAIN,
    STRANGERS,
    Attack,
    Budget,
)
from train.evaluation.document import Block, Fold, Heading, Table, Text
from train.evaluation.measure import Held
from train.evaluation.part import Part
from train.evaluation.tables import DASH, number
from train.evaluation.trajectory_story import Followed, trajectory_blocks, trajectory_files

#: What may be said of any gate of this kind.
CLAIM = (
    "What may be claimed: the gate flags perturbations that are not made for it, and corruptions, "
    "at a certified rate of false alarms, and raises the cost of attacks on the same classifier. "
    "It does not stop an attacker who knows it."
)

AttackCells = tuple[AttackCell, ...]


def part_of(
    found: AttackCells, budget: Budget, held: Held, seed: int, followed: Sequence[Followed] = ()
) -> Part:
    """Everything that the report has of them, and of those that were ``followed``."""
    by_name = {(cell.source, cell.attack): cell for cell in found}
    return Part(
        name="attacks",
        data={
            "budget": budget.name,
            "images": budget.images,
            "cells": [asdict(cell) for cell in found],
            "followed": [one.cell.to_json() for one in followed],
        },
        seeds={"attacks": seed},
        in_short=in_short(by_name, budget),
        bad_news=bad_news(by_name, budget),
        checked=CHECKED,
        blocks=(*_blocks(found, by_name, budget), *trajectory_blocks(followed)),
        files={
            **nearby_files(found, budget),
            **trajectory_files(followed, held.model.checkpoint.class_labels),
        },
    )


def _blocks(
    found: AttackCells, by_name: dict[tuple[str, str], AttackCell], budget: Budget
) -> tuple[Block, ...]:
    return (
        Heading(text="Attacks", level=2),
        Text(
            text=f"Budget {budget.name}: up to {budget.images} images that are classified rightly "
            "and let in. Success of an attack: another class, and let in. What is sent are 8-bit "
            "images; what happens to them is asked of the gate as served."
        ),
        _pairs(by_name, budget),
        Text(text=CLAIM),
        _growing(by_name, budget),
        *_strangers(by_name, budget),
        _all(found, budget),
        *nearby_blocks(found, budget),
    )


def _pairs(by_name: dict[tuple[str, str], AttackCell], budget: Budget) -> Table:
    """Plain attacks beside adaptive ones in the same ball."""
    plain = [a for a in budget.attacks if a.kind == PLAIN]
    return Table(
        heads=(
            "plain attack",
            "misclassified",
            "detected",
            "success",
            "adaptive attack, same ball",
            "detected",
            "success",
            "any attack within the ball: success",
        ),
        rows=tuple(_pair(by_name, budget, attack) for attack in plain),
        caption="linf in 8-bit levels of 255, l2 in pixels of [0, 1]. Detected: of the "
        "misclassified, rejected. The adaptive attack with the most success is shown, then the "
        "images that any attack in this ball or a smaller one got past the gate.",
    )


def _pair(
    by_name: dict[tuple[str, str], AttackCell], budget: Budget, plain: Attack
) -> tuple[str, ...]:
    blind = by_name[MODEL, plain.name]
    adaptive = [
        by_name[MODEL, a.name]
        for a in budget.attacks
        if a.kind == ADAPTIVE and (a.norm, a.eps) == (plain.norm, plain.eps)
    ]
    best = max(adaptive, key=evaded, default=None)
    knowing = (best.attack, share(best.detected), share(best.evaded)) if best else (DASH,) * 3
    together = share(within(by_name, budget, plain.norm, plain.eps))
    of_plain = (share(blind.wrong), share(blind.detected), share(blind.evaded))
    return (plain.name, *of_plain, *knowing, together)


def _growing(by_name: dict[tuple[str, str], AttackCell], budget: Budget) -> Table:
    """Success as the ball grows, which has to reach all images in the end."""
    balls = sorted({(a.norm, a.eps) for a in budget.attacks if a.kind == ADAPTIVE})
    rows = tuple(
        (f"{norm} {eps:g}", _between(within(by_name, budget, norm, eps))) for norm, eps in balls
    )
    return Table(
        heads=("ball", "success of any attack within it"),
        rows=rows,
        caption="Images of which some attack in the ball or in a smaller one makes another class "
        "that is let in. A ball of 255 levels holds every image, those of other classes, too, at "
        "which some attacks begin: there success needs no gradient.",
    )


def _strangers(by_name: dict[tuple[str, str], AttackCell], budget: Budget) -> tuple[Block, ...]:
    """Images that are none of the data and are rejected, on their way to be let in."""
    attacks = [a for a in budget.attacks if a.kind == STRANGERS]
    balls = dict.fromkeys(a.eps for a in attacks)
    rows = []
    for name in dict.fromkeys(a.of for a in attacks):
        cells = [by_name.get((MODEL, a.name)) for a in attacks if a.of == name]
        count = str(cells[0].images) if cells[0] else "none is rejected"
        rows.append((name, count, *(share(cell.evaded) if cell else DASH for cell in cells)))
    table = Table(
        heads=("strangers", "rejected images", *(f"let in at {eps:g}/255" for eps in balls)),
        rows=tuple(rows),
        caption="Strangers that the gate rejects as they are, moved down its score: what their "
        "detection is worth against one who knows the gate. Noise is made for every report, other "
        "sets are those of --ood.",
    )
    return (table,) if rows else ()


def _all(found: AttackCells, budget: Budget) -> Block:
    attacks = {attack.name: attack for attack in budget.attacks}
    table = Table(
        heads=(
            "attack",
            "kind",
            "images",
            "steps",
            "misclassified",
            "detected",
            "success",
            "AUROC of S",
            "mean l2",
            "seconds",
        ),
        rows=tuple(_row(cell, attacks[cell.attack]) for cell in found),
        caption="95% intervals (Clopper-Pearson). Of strangers to be let in, success is being let "
        "in. Mean l2 of those that were misclassified (strangers: let in). A baseline has no gate.",
    )
    return Fold(title="Every attack", blocks=(table,))


def _row(cell: AttackCell, attack: Attack) -> tuple[str, ...]:
    return (
        f"{cell.source}: {cell.attack}",
        attack.kind,
        f"{cell.images}",
        _effort(attack),
        _between(cell.wrong) if attack.kind != STRANGERS else DASH,
        _between(cell.detected),
        _between(cell.evaded),
        number(cell.auroc),
        number(cell.l2, 2),
        f"{cell.seconds:.0f}",
    )


def _effort(attack: Attack) -> str:
    return f"{attack.steps:,}" + (f" x {attack.restarts}" if attack.restarts > 1 else "")


def _between(rate: Rate | None) -> str:
    if rate is None or rate.share is None:
        return DASH
    return f"{rate.share:.0%} ({rate.low:.0%} to {rate.high:.0%})"
