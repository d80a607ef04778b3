"""How far images have to be moved to be of another class, and how plain that is to the gate:
Carlini and Wagner's attacks as a table and a figure, after Fig. 7 of Mackowiak et al., CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from train.evaluation.attack_cell import MODEL, AttackCell
from train.evaluation.attack_findings import share
from train.evaluation.attack_plan import DETECTIONS, KAPPAS, TARGETED, THROUGH_S, Attack, Budget
from train.evaluation.document import Block, Heading, Picture, Table
from train.evaluation.style import BLUE, GREEN, INK, ORANGE, blank, styled, to_svg
from train.evaluation.tables import DASH, number

FILE = "attacks_nearby.svg"

#: Of kappa and of d, in their order.
COLOURS, MARKERS = (BLUE, ORANGE, GREEN), ("o", "s", "D")


def nearby_blocks(found: Sequence[AttackCell], budget: Budget) -> tuple[Block, ...]:
    """The section of the report; nothing where nothing was targeted."""
    attacks = _targeted(found, budget)
    if not attacks:
        return ()
    names = _baselines(found)
    by_name = {(cell.source, cell.attack): cell for cell in found}
    table = Table(
        heads=(
            "attack",
            "hits",
            "mean l2",
            *(f"mean l2 of {name}" for name in names),
            *(f"ours over {name}" for name in names),
            "AUROC of S",
            "detected",
            "success",
        ),
        rows=tuple(
            _row(by_name[MODEL, a.name], [by_name.get((name, a.name)) for name in names])
            for a in attacks
        ),
        caption="Targeted Carlini-Wagner attacks on the seed paper's grid; kappa: margin in nats "
        "that is asked for, d: weight of the detector in the attacker's loss: of the density, "
        "through S that of the gate itself. Ours over another's: of images that both were hit on, "
        "with the same targets. The paper's (Fig. 7, ImageNet) needs about twice ResNet-50's "
        "perturbation at d = 0.",
    )
    picture = Picture(
        file=FILE,
        alt="Mean l2 of targeted attacks against the AUROC of the gate's score, by kappa and d.",
        caption="Further right: the attack has to move images farther; higher: the gate tells them "
        "from clean ones more often. A line is one kappa, over growing weight d of the density; "
        "dotted, where each baseline lies, which has no gate. The star minds the gate itself.",
    )
    heading = Heading(text="Attacks: how far images must be moved", level=2)
    return (heading, table, picture) if _drawn(found, attacks) else (heading, table)


def _row(ours: AttackCell, theirs: Sequence[AttackCell | None]) -> tuple[str, ...]:
    return (
        ours.attack,
        share(ours.wrong),
        number(ours.l2, 3),
        *(number(one.l2 if one else None, 3) for one in theirs),
        *(_over(ours, one) for one in theirs),
        number(ours.auroc),
        share(ours.detected),
        share(ours.evaded),
    )


def nearby_files(found: Sequence[AttackCell], budget: Budget) -> dict[str, bytes]:
    """The figure, where there is something to draw."""
    attacks = _targeted(found, budget)
    if not _drawn(found, attacks):
        return {}
    with styled():
        return {FILE: to_svg(_figure(found, attacks))}


def _figure(found: Sequence[AttackCell], attacks: Sequence[Attack]) -> Figure:
    figure = blank(6.5, 3.6)
    axes = figure.add_subplot()
    for kappa, colour in zip(KAPPAS, COLOURS, strict=True):
        own = [a for a in attacks if a.kappa == kappa and not a.sees_gate]
        points = _points(found, own)
        axes.plot([x for _, x, _ in points], [y for _, _, y in points], color=colour, lw=1)
        for attack, *point in points:
            marker = MARKERS[DETECTIONS.index(attack.detection)]
            axes.plot(*point, marker, color=colour, ms=6)
        for l2 in _of_baselines(found, own):
            axes.axvline(l2, color=colour, ls=":", lw=1)
    for _, *point in _points(found, [a for a in attacks if a.sees_gate]):
        axes.plot(*point, "*", color=INK, ms=11)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("mean l2 of what was added, pixels in [0, 1]")
    axes.set_ylabel("AUROC of S")
    axes.legend(handles=_legend(_baselines(found)), loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _legend(baselines: Sequence[str]) -> list[Line2D]:
    return [
        *(
            Line2D([], [], color=colour, label=f"kappa {kappa:g}")
            for kappa, colour in zip(KAPPAS, COLOURS, strict=True)
        ),
        *(
            Line2D([], [], color=INK, marker=marker, ls="", label=f"d {weight:g}")
            for weight, marker in zip(DETECTIONS, MARKERS, strict=True)
        ),
        Line2D([], [], color=INK, marker="*", ls="", ms=9, label=THROUGH_S),
        *(Line2D([], [], color=INK, ls=":", label=name) for name in baselines),
    ]


def _points(
    found: Sequence[AttackCell], attacks: Sequence[Attack]
) -> list[tuple[Attack, float, float]]:
    """Mean l2 and AUROC of the model's cells that have both."""
    by_name = {cell.attack: cell for cell in found if cell.source == MODEL}
    cells = [(attack, by_name[attack.name]) for attack in attacks]
    return [(a, cell.l2, cell.auroc) for a, cell in cells if cell.l2 and cell.auroc is not None]


def _of_baselines(found: Sequence[AttackCell], attacks: Sequence[Attack]) -> list[float]:
    names = {attack.name for attack in attacks}
    return [c.l2 for c in found if c.source != MODEL and c.l2 and c.attack in names]


def _drawn(found: Sequence[AttackCell], attacks: Sequence[Attack]) -> bool:
    return bool(_points(found, attacks))


def _targeted(found: Sequence[AttackCell], budget: Budget) -> list[Attack]:
    there = {cell.attack for cell in found if cell.source == MODEL}
    return [a for a in budget.attacks if a.kind == TARGETED and a.name in there]


def _baselines(found: Sequence[AttackCell]) -> list[str]:
    return [name for name in dict.fromkeys(cell.source for cell in found) if name != MODEL]


def _over(ours: AttackCell, theirs: AttackCell | None) -> str:
    """Mean l2 of images that both attacks moved, ours over theirs."""
    if theirs is None:
        return DASH
    pairs = [
        (a, b)
        for a, b in zip(ours.moved, theirs.moved, strict=True)
        if a is not None and b is not None
    ]
    if not pairs:
        return DASH
    a, b = np.mean(pairs, axis=0)
    return f"{a / b:.2f}x"
