"""Corruptions in sentences: what they come to, and what is bad news in them.

The checks are fixed, as those of ``train.evaluation.findings`` are.
"""

from __future__ import annotations

from collections.abc import Iterator

from train.evaluation.corruption_summary import Corruptions
from train.evaluation.findings import MARGIN, MOSTLY_MISSED, percent
from train.evaluation.judging import GATE, INPUT_ONLY, TYPICALITY

#: Corruptions that the paper's test misses at every beta, and the least AUROC of the gate there.
HARD, LEAST = ("snow", "frost", "brightness"), 0.65

#: How far the gate's mean AUROC is to be above that of typicality and of input statistics only.
OVER_TYPICALITY, OVER_INPUT = 0.10, 0.03

#: An AUROC of the control above this says that images are told by how they are stored.
TOLD_APART = 0.55


def in_short(found: Corruptions) -> tuple[str, ...]:
    """What it comes to."""
    names = {GATE: "the gate's AUROC is", TYPICALITY: "typicality's", INPUT_ONLY: "that of input "
             "statistics alone"}  # fmt: skip
    means = {name: found.mean.by(name) for name in names}
    said = ", ".join(f"{names[name]} {one.auroc:.3f}" for name, one in means.items() if one)
    ours, last = found.robustness[0], found.by_severity[-1]
    over = f"; mCE {ours.mce:.1f} over {found.reference}" if ours.mce is not None else ""
    return (
        f"Corruptions, mean of {len(found.by_corruption)} at {len(found.by_severity) - 1} "
        f"severities: {said}.",
        f"Accuracy {percent(ours.accuracy.share)} on clean and {percent(ours.corrupted)} on "
        f"corrupted images{over}. At severity {last.severity}, {percent(last.accuracy.share)} on "
        f"all and {percent(last.accuracy_accepted.share)} on the accepted; "
        f"{percent(last.rejected.share)} are rejected.",
    )


def bad_news(found: Corruptions) -> tuple[str, ...]:
    """What is not good; empty where every check went well."""
    checks = (_told_by_storage, _hard, _behind, _others, _missed, _accepted, _less_robust, _surer)
    return tuple(sentence for check in checks for sentence in check(found))


def checked() -> str:
    """What ``bad_news`` looks at."""
    return (
        f"Looked for under corruptions: {', '.join(HARD)} below an AUROC of {LEAST}; a mean of the "
        f"gate less than {OVER_TYPICALITY:.2f} above typicality or {OVER_INPUT:.2f} above input "
        f"statistics only; another detector ahead by more than {MARGIN}; most images of the "
        "strongest severity with p > .05; accuracy on the accepted that is not above that on all "
        "at some severity; an mCE above 100; a posterior that is surer of corrupted images than of "
        "clean ones; images told by how they are stored."
    )


def _told_by_storage(found: Corruptions) -> Iterator[str]:
    gate = found.stored.pair.by(GATE) if found.stored else None
    if gate and gate.auroc > TOLD_APART:
        yield (
            f"Storing images anew is told from clean ones already (the gate's AUROC "
            f"{gate.auroc:.3f}): the figures of corruptions hold that too."
        )


def _hard(found: Corruptions) -> Iterator[str]:
    low = [
        f"{mean.group} {gate.auroc:.3f}"
        for mean in found.by_corruption
        if mean.group in HARD and (gate := mean.by(GATE)) and gate.auroc < LEAST
    ]
    if low:
        yield f"The gate's AUROC is below {LEAST} on {', '.join(low)}."


def _behind(found: Corruptions) -> Iterator[str]:
    gate = found.mean.by(GATE)
    asked = {TYPICALITY: OVER_TYPICALITY, INPUT_ONLY: OVER_INPUT}
    for name, least in asked.items():
        other = found.mean.by(name)
        if gate and other and gate.auroc < other.auroc + least:
            yield (
                f"Over all corruptions the gate's AUROC is {gate.auroc - other.auroc:+.3f} against "
                f"{found.detectors[name]} ({gate.auroc:.3f} and {other.auroc:.3f}), asked is "
                f"{least:+.2f}."
            )


def _others(found: Corruptions) -> Iterator[str]:
    ahead = []
    for mean in found.by_corruption:
        gate, best = mean.by(GATE), max(mean.found, key=lambda one: one.auroc)
        if gate and best.auroc > gate.auroc + MARGIN:
            title = found.detectors[best.detector]
            ahead.append(f"{mean.group} ({title} {best.auroc:.3f}, the gate {gate.auroc:.3f})")
    if ahead:
        yield f"Another detector is ahead of the gate: {'; '.join(ahead)}."


def _missed(found: Corruptions) -> Iterator[str]:
    strongest = max(cell.severity for cell in found.cells)
    missed = [
        f"{cell.corruption} ({gate.tpr_05:.1%} found)"
        for cell in found.cells
        if cell.severity == strongest
        and (gate := cell.pair.by(GATE))
        and gate.tpr_05 is not None
        and gate.tpr_05 < MOSTLY_MISSED
    ]
    if missed:
        yield f"At severity {strongest} most pass at conformal 5%: {'; '.join(missed)}."


def _accepted(found: Corruptions) -> Iterator[str]:
    """Where rejecting does not help the rest."""
    no_better = [
        f"{row.severity} ({percent(row.accuracy_accepted.share)} against "
        f"{percent(row.accuracy.share)})"
        for row in found.by_severity
        if row.severity
        and (row.accuracy_accepted.share is None or row.accuracy.share is None
             or row.accuracy_accepted.share <= row.accuracy.share)
    ]  # fmt: skip
    if no_better:
        yield (
            "Accuracy on accepted images is not above that on all at severity "
            f"{', '.join(no_better)}."
        )


def _less_robust(found: Corruptions) -> Iterator[str]:
    ours = found.robustness[0]
    if ours.mce is not None and ours.mce > 100:
        yield (
            f"Corruptions cost the model more errors than {found.reference}: mCE {ours.mce:.1f}, "
            "where 100 is as many."
        )


def _surer(found: Corruptions) -> Iterator[str]:
    ours = found.robustness[0]
    if ours.delta_entropy <= 0:
        yield (
            "The posterior is no less sure of corrupted images than of clean ones: Δ entropy "
            f"{ours.delta_entropy:+.3f} nats."
        )
