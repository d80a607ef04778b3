"""An evaluation in sentences: what it comes to, and what is bad news in it, as plainly.

The checks are fixed, so that a report says of each what it found, whichever way it went.
"""

from __future__ import annotations

from collections.abc import Sequence

from calibration.modes import LABEL_SHIFT_SAFE
from train.evaluation.judging import GATE, INPUT_ONLY
from train.evaluation.measure import CALIBRATION, OOD, Evaluation, Measured
from train.evaluation.pairs import Mean, Pair
from train.evaluation.rates import ALPHAS, BAND_LEVEL

#: An AUROC lower than another by more than this counts as worse.
MARGIN = 0.005

#: Above this AUROC there is hardly anything left to gain.
FULL = 0.995

#: Strangers of which fewer than this share have p <= .05 are mostly missed.
MOSTLY_MISSED = 0.5


def in_short(measured: Measured) -> tuple[str, ...]:
    """What it comes to, suite by suite."""
    evaluation = measured.evaluation
    said = [_mean_said(mean) for mean in evaluation.means]
    if not evaluation.means:
        said += [_pair_said(pair) for pair in evaluation.pairs]
    rates = ", ".join(
        f"{percent(found.rate.share)} at alpha {found.alpha:g}" for found in evaluation.realised
    )
    if rates:
        said.append(f"Known images with p at most alpha: {rates}.")
    rejected, abstained = (percent(r.share) for r in (evaluation.rejected, evaluation.abstained))
    said.append(
        f"At the bundle's alpha of {measured.model.calibration.alpha:g}, {rejected} of the known "
        f"images are rejected and {abstained} abstained on."
    )
    if evaluation.posteriors:
        ours = evaluation.posteriors[0]
        said.append(
            f"Accuracy {percent(ours.accuracy.share)}; expected calibration error {ours.ece:.4f}, "
            f"of which chance alone gives up to {ours.ece_if_calibrated:.4f}."
        )
    said += [sentence for part in measured.parts for sentence in part.in_short]
    return tuple(filter(None, said))


def worries(measured: Measured) -> tuple[str, ...]:
    """The bad news of all suites; empty where every check went well."""
    own = bad_news(measured.evaluation)
    return own + tuple(sentence for part in measured.parts for sentence in part.bad_news)


def bad_news(evaluation: Evaluation) -> tuple[str, ...]:
    """What is not good among strangers and calibration."""
    checks = (_against_input, _against_all, _missed, _off, _classes_above, _posterior)
    return tuple(sentence for check in checks for sentence in check(evaluation))


#: What ``bad_news`` looks at, by suite.
_LOOKED_FOR = {
    OOD: (
        "sets on which input statistics alone reach an AUROC as high as the gate's or higher, or "
        f"any other detector one higher by more than {MARGIN}; sets of which fewer than half have "
        "p ≤ .05"
    ),
    CALIBRATION: (
        "realised rates outside of the band of a perfect gate, or above alpha in a mode without "
        "one; classes refused more often than a perfect gate refuses them, or than alpha in a mode "
        "that promises nothing within a class; a calibration error beyond chance"
    ),
}


def checked(measured: Measured) -> str:
    """What ``worries`` looks at."""
    looked = [_LOOKED_FOR[name] for name in _LOOKED_FOR if name in measured.evaluation.suites]
    own = [f"Looked for: {'; '.join(looked)}."] if looked else []
    return " ".join([*own, *(part.checked for part in measured.parts)])


def percent(share: float | None) -> str:
    """Two digits after the point; a dash where there is none."""
    return "–" if share is None else f"{share:.2%}"


def _mean_said(mean: Mean) -> str:
    gate = mean.by(GATE)
    if gate is None or gate.tpr_01 is None:
        return ""
    said = (
        f"Strangers, mean of {len(mean.pairs)} ({mean.group}): the gate's AUROC is "
        f"{gate.auroc:.3f}, its FPR95 {gate.fpr95:.3f}, and it finds {gate.tpr_01:.1%} at "
        "conformal 1%"
    )
    plain = mean.by(INPUT_ONLY)
    return f"{said}. Input statistics alone: AUROC {plain.auroc:.3f}." if plain else f"{said}."


def _pair_said(pair: Pair) -> str:
    gate = pair.by(GATE)
    if gate is None or gate.tpr_01 is None:
        return ""
    return (
        f"Against {pair.name}: the gate's AUROC is {gate.auroc:.3f}, its FPR95 {gate.fpr95:.3f}, "
        f"and it finds {gate.tpr_01:.1%} at conformal 1%."
    )


def _against_input(evaluation: Evaluation) -> list[str]:
    """Where the network adds nothing; without numbers where both find nearly all there is."""
    behind, full = [], []
    compared: list[tuple[str, Pair | Mean]] = [(pair.name, pair) for pair in evaluation.pairs]
    compared += [(f"the mean over {mean.group}", mean) for mean in evaluation.means]
    for name, found in compared:
        gate, plain = found.by(GATE), found.by(INPUT_ONLY)
        if gate and plain and gate.auroc <= plain.auroc:
            if gate.auroc > FULL:
                full.append(name)
            else:
                behind.append(f"{name} ({gate.auroc:.3f} against {plain.auroc:.3f})")
    said = [f"where both are above {FULL:g}: {', '.join(full)}"] if full else []
    if not behind and not full:
        return []
    listed = _listed([*behind, *said])
    return [f"The gate's AUROC is no better than that of input statistics only: {listed}."]


def _against_all(evaluation: Evaluation) -> list[str]:
    behind = []
    for pair in evaluation.pairs:
        gate = pair.by(GATE)
        others = [found for found in pair.found if found.detector not in (GATE, INPUT_ONLY)]
        best = max(others, key=lambda found: found.auroc, default=None)
        if gate and best and best.auroc > gate.auroc + MARGIN:
            title = evaluation.detectors[best.detector]
            behind.append(f"{pair.name} ({title} {best.auroc:.3f}, the gate {gate.auroc:.3f})")
    return [f"Another detector is ahead of the gate: {_listed(behind)}."] if behind else []


def _missed(evaluation: Evaluation) -> list[str]:
    found = []
    for pair in evaluation.pairs:
        gate = pair.by(GATE)
        if gate and gate.tpr_05 is not None and gate.tpr_05 < MOSTLY_MISSED:
            found.append(f"{pair.name} ({gate.tpr_05:.1%} found)")
    return [f"Most strangers pass at conformal 5%: {_listed(found)}."] if found else []


def _off(evaluation: Evaluation) -> list[str]:
    """Rates outside of the band; without one, those whose interval is above alpha."""
    said = []
    for found in evaluation.realised:
        share = f"{percent(found.rate.share)} of the known images have p ≤ {found.alpha:g}"
        if found.band and found.inside is False:
            low, high = (percent(bound) for bound in found.band)
            said.append(
                f"{share}, outside of the {low} to {high} where a perfect gate lies in "
                f"{BAND_LEVEL:.0%} of calibrations."
            )
        elif found.band is None and found.rate.low > found.alpha:
            said.append(
                f"{share}: above alpha by more than the chance in these images; mode "
                f"{evaluation.mode} has no band that would count the calibration's chance too."
            )
    return said


def _classes_above(evaluation: Evaluation) -> list[str]:
    said = []
    for i, alpha in enumerate(ALPHAS):
        above = [
            f"{found.label} ({percent(found.at[i].share)})"
            for found in evaluation.classes
            if found.above(i)
        ]
        if above and evaluation.mode == LABEL_SHIFT_SAFE:
            said.append(
                f"Refused more often at alpha {alpha:g} than a perfect gate refuses a class: "
                f"{_listed(above)}."
            )
        elif above:
            said.append(
                f"Above alpha {alpha:g} within a class, which mode {evaluation.mode} does not "
                f"promise: {_listed(above)}."
            )
    return said


def _posterior(evaluation: Evaluation) -> list[str]:
    return [
        f"The calibration error of {ours.source}, {ours.ece:.4f}, is more than chance alone gives "
        f"(up to {ours.ece_if_calibrated:.4f})."
        for ours in evaluation.posteriors[:1]
        if ours.ece > ours.ece_if_calibrated
    ]


def _listed(items: Sequence[str]) -> str:
    return "; ".join(items)
