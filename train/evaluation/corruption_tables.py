"""Tables of the suite ``corruptions``; rows that others have published are named so."""

from __future__ import annotations

from train.evaluation import published
from train.evaluation.corruption_cells import Cell
from train.evaluation.corruption_summary import AtSeverity, Corruptions, Robustness
from train.evaluation.document import Table
from train.evaluation.findings import percent
from train.evaluation.judging import GATE, TYPICALITY
from train.evaluation.pairs import Found, Mean
from train.evaluation.tables import number, share_with_interval

POOLED_NOTE = (
    "Intervals of 95% (Clopper-Pearson) are as if each image counted once, since the same images "
    "are in every corruption."
)


def auroc_of_corruptions(found: Corruptions) -> Table:
    """AUROC of every detector on each corruption, the published beside: the paper's Table 2."""
    beta_2 = next(row.auroc for row in published.TABLE if row.name == "β = 2")
    beside = list(found.detectors).index(TYPICALITY) + 1

    def row(name: str, mean: Mean, theirs: float | None) -> tuple[str, ...]:
        cells = _cells(found, mean, "auroc")
        return (name, *cells[:beside], number(theirs), *cells[beside:])

    rows = [
        row(mean.group, mean, published.AUROC_BETA_2.get(mean.group))
        for mean in found.by_corruption
    ]
    titles = list(found.detectors.values())
    theirs = f"{published.OTHERS}: typicality, β = 2"
    return Table(
        heads=("corruption", *titles[:beside], theirs, *titles[beside:]),
        rows=(*rows, row(_mean_name(found), found.mean, beta_2)),
        strong=frozenset({len(rows)}),
        caption=(
            "AUROC of corrupted against clean images, mean over severities (Table 2 of the paper). "
            f"One column is {published.SOURCE}, by the two-sided test of log p(x), to be held "
            "against our typicality for its order, not for its size: other images and networks."
        ),
    )


def measure_of_corruptions(found: Corruptions, field: str, title: str, meaning: str) -> Table:
    """One figure of every detector on each corruption."""
    rows = [(mean.group, *_cells(found, mean, field)) for mean in found.by_corruption]
    return Table(
        heads=("corruption", *found.detectors.values()),
        rows=(*rows, (_mean_name(found), *_cells(found, found.mean, field))),
        strong=frozenset({len(rows)}),
        caption=f"{title}, mean over severities. {meaning}",
    )


def robustness_table(found: Corruptions) -> Table:
    """mCE and what the posterior knows of it, the published rows below: Table 3 of the paper."""
    ours = [_robustness(found, row) for row in found.robustness]
    over = (
        f"mCE and relative mCE are over the errors of {found.reference} (100: as many), where each "
        "can be divided by them; those published are over AlexNet's."
        if found.reference
        else "mCE and relative mCE are left out: they need the errors of a ResNet trained alike, "
        "--baseline of kind resnet."
    )
    return Table(
        heads=(
            *("classifier", "accuracy", "corrupted: accuracy", "OCE", "corrupted: OCE"),
            *("mCE", "relative mCE", "Δ entropy (nats)", "AUROC, typicality", "AUROC, gate"),
        ),
        rows=(*ours, *(_published(row) for row in published.TABLE)),
        strong=frozenset(range(len(ours))),
        caption=(
            "Means over all corruptions and severities, of all images, those that the gate rejects "
            f"too (Table 3 of the paper). {over} OCE: error rate among predictions of at least "
            "99.7%, over .3%. Δ entropy: mean entropy of the posterior on corrupted images less "
            "that on clean ones; higher: it notices more. Our posterior is calibrated, baselines' "
            f"are at temperature 1. Rows of β and ResNet-50: {published.SOURCE}, accuracy of 10 "
            "crops; their scales differ from ours."
        ),
    )


def severity_table(found: Corruptions) -> Table:
    """Accuracy of all and of the accepted by severity, and how many those are."""
    names = list(found.by_severity[0].baselines)
    return Table(
        heads=(
            *("severity", "accuracy of all", "accuracy of the accepted", "gain"),
            *("accuracy of the rejected", "rejected", "abstained", "gate: AUROC", "TPR at 5%"),
            *(f"accuracy of {name}" for name in names),
        ),
        rows=tuple(_severity(row, names) for row in found.by_severity),
        caption=(
            f"Over {len(found.by_corruption)} corruptions of {found.rows:,} images each; severity "
            "0: not corrupted. Accepted: not rejected, with those abstained on. Gain: accuracy of "
            f"the accepted less that of all, in points. {POOLED_NOTE}"
        ),
    )


def cell_table(found: Corruptions) -> Table:
    """Every corruption at every severity."""
    heads = (
        *("corruption", "AUROC", "TPR at 1%", "TPR at 5%", "FPR95", "rejected", "abstained"),
        *("accuracy of all", "of the accepted", "of the rejected", "entropy", "OCE (of how many)"),
        *(
            f"{source.source}: {what}"
            for source in found.clean.classified[1:]
            for what in ("error", "entropy")
        ),
    )
    first = [found.clean] if found.stored is None else [found.clean, found.stored]
    return Table(
        heads=heads,
        rows=tuple(_cell(cell) for cell in (*first, *found.cells)),
        caption=(
            "The gate and the model at each severity, intervals of 95% (Clopper-Pearson) behind "
            "shares. Entropy: mean of the posterior's, nats. Baselines: top-1 error."
        ),
    )


def _cells(found: Corruptions, mean: Mean, field: str) -> tuple[str, ...]:
    every = (mean.by(name) for name in found.detectors)
    return tuple(number(getattr(one, field) if one else None) for one in every)


def _mean_name(found: Corruptions) -> str:
    return f"mean of {len(found.by_corruption)}"


def _robustness(found: Corruptions, row: Robustness) -> tuple[str, ...]:
    detectors = ("typicality", GATE) if row is found.robustness[0] else ()
    aurocs = [by.auroc if (by := found.mean.by(name)) else None for name in detectors]
    return (
        row.source,
        percent(row.accuracy.share),
        percent(row.corrupted),
        number(row.oce, 2),
        number(row.oce_corrupted, 2),
        number(row.mce, 1),
        number(row.relative_mce, 1),
        f"{row.delta_entropy:+.3f}",
        *map(number, [*aurocs, None, None][:2]),
    )


def _published(row: published.Published) -> tuple[str, ...]:
    accuracy = None if row.accuracy is None else row.accuracy / 100
    return (
        f"{row.name} ({published.OTHERS})",
        percent(accuracy),
        number(None),
        number(row.oce, 2),
        number(None),
        number(row.mce, 1),
        number(row.relative_mce, 0),
        number(row.delta_entropy, 2),
        number(row.auroc),
        number(None),
    )


def _severity(row: AtSeverity, names: list[str]) -> tuple[str, ...]:
    every, accepted = row.accuracy.share, row.accuracy_accepted.share
    gain = None if every is None or accepted is None else 100 * (accepted - every)
    gate = row.found.by(GATE) if row.found else None
    rates = (row.accuracy_rejected, row.rejected, row.abstained)
    return (
        str(row.severity),
        share_with_interval(row.accuracy),
        share_with_interval(row.accuracy_accepted),
        number(None) if gain is None else f"{gain:+.2f}",
        *(share_with_interval(rate) for rate in rates),
        *_gate(gate, ("auroc", "tpr_05")),
        *(percent(row.baselines[name].share) for name in names),
    )


def _cell(cell: Cell) -> tuple[str, ...]:
    model, pair = cell.model, cell.pair
    rates = (pair.rejected, pair.abstained, model.accuracy)
    return (
        pair.name if cell.severity else cell.corruption,
        *_gate(pair.by(GATE), ("auroc", "tpr_01", "tpr_05", "fpr95")),
        *(share_with_interval(rate) for rate in rates),
        *(share_with_interval(rate) for rate in (cell.accuracy_accepted, cell.accuracy_rejected)),
        number(model.entropy),
        f"{number(model.oce, 2)} ({model.oce_rows:,})",
        *(
            text
            for theirs in cell.classified[1:]
            for text in (percent(1 - (theirs.accuracy.share or 0.0)), number(theirs.entropy))
        ),
    )


def _gate(gate: Found | None, fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(number(getattr(gate, field) if gate else None) for field in fields)
