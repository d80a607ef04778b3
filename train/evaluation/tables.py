"""An evaluation's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from calibration.detection import Rate
from calibration.modes import MARGINAL, PREDICTED_CLASS
from train.evaluation import published
from train.evaluation.document import Table
from train.evaluation.findings import percent
from train.evaluation.judging import GATE, INPUT_ONLY
from train.evaluation.measure import Evaluation
from train.evaluation.pairs import Found, Mean, Pair
from train.evaluation.posterior import PosteriorReport
from train.evaluation.rates import ALPHAS, BAND_LEVEL
from train.evaluation.ten_crop import TenCrop

DASH = "–"

#: Which convention of FPR95 is meant: there are two, and they differ.
FPR95_NOTE = (
    "FPR95: share of known images flagged at the threshold that flags 95% of the strangers, the "
    "convention of OpenOOD v1.5, to which a stranger is the positive; lower is better."
)

#: The figures of ``Found``: field, heading, and what it means.
MEASURES = (
    ("auroc", "AUROC", "Chance that a stranger's score is above a known image's; .5 is no power."),
    ("tpr_01", "TPR at conformal 1%", "Share of strangers with p ≤ .01; baselines have no p here."),
    ("tpr_05", "TPR at conformal 5%", "Share of strangers with p ≤ .05; baselines have no p here."),
    ("fpr95", "FPR95", FPR95_NOTE),
)


def main_table(evaluation: Evaluation) -> Table:
    """The gate on each set, means first, beside the best of the others."""
    rows = [_mean_row(evaluation, mean) for mean in evaluation.means]
    strong = frozenset(range(len(rows)))
    rows += [_pair_row(evaluation, pair) for pair in evaluation.pairs]
    heads = (
        "strangers",
        "images",
        "AUROC",
        "TPR at 1%",
        "TPR at 5%",
        "FPR95",
        "rejected",
        "abstained",
        "input only: AUROC",
        "gate − input",
        "best other: AUROC",
    )
    caption = (
        "The gate against each set; TPR at conformal 1% and 5%: share of strangers with p ≤ .01 "
        f"and .05. {FPR95_NOTE} Input only: the same score of statistics of the pixels alone, "
        "given the predicted class."
    )
    return Table(heads=heads, rows=tuple(rows), caption=caption, strong=strong)


def detector_table(evaluation: Evaluation, field: str, title: str, meaning: str) -> Table:
    """One figure of every detector on every set, means last."""

    def cells(name: str, by: Callable[[str], Found | None]) -> tuple[str, ...]:
        found = (by(detector) for detector in evaluation.detectors)
        return (name, *(number(getattr(one, field) if one else None) for one in found))

    rows = [cells(pair.name, pair.by) for pair in evaluation.pairs]
    strong = frozenset(range(len(rows), len(rows) + len(evaluation.means)))
    rows += [cells(mean_name(mean), mean.by) for mean in evaluation.means]
    heads = ("strangers", *evaluation.detectors.values())
    caption = f"{title}. {meaning}"
    return Table(heads=heads, rows=tuple(rows), caption=caption, strong=strong)


def realised_table(evaluation: Evaluation, reference_size: int, mode: str) -> Table:
    """Shares of known rows with p at most alpha."""
    perfect = (
        f"A perfect gate, whose {reference_size:,} reference rows are a draw too, is inside of the "
        f"last range with {BAND_LEVEL:.0%} (beta-binomial)."
    )
    rows = []
    for found in evaluation.realised:
        band = f"{percent(found.band[0])} to {percent(found.band[1])}" if found.band else DASH
        inside = {True: "yes", False: "NO", None: DASH}[found.inside]
        rate = found.rate
        row = (f"{found.alpha:g}", f"{rate.count:,}", percent(rate.share), between(rate), band)
        rows.append((*row, inside))
    return Table(
        heads=("alpha", "with p ≤ alpha", "share", "95% interval", "perfect gate", "inside"),
        rows=tuple(rows),
        caption=(
            f"Of {evaluation.known.rows:,} known images. The interval (Clopper-Pearson) is of the "
            "chance behind the share with this one calibration; it need not hold alpha. "
            + (
                perfect
                if mode == MARGINAL
                else f"Mode {mode} has no such range for a perfect gate."
            )
        ),
    )


def class_table(evaluation: Evaluation, mode: str) -> Table:
    """Shares by true class."""
    rows = tuple(
        (
            found.label,
            f"{found.rejected.total:,}",
            *(f"{percent(rate.share)} ({between(rate)})" for rate in found.at),
            percent(found.rejected.share),
            percent(found.abstained.share),
        )
        for found in evaluation.classes
    )
    heads = ("class", "images", *(f"p ≤ {alpha:g}" for alpha in ALPHAS), "rejected", "abstained")
    promise = {
        MARGINAL: "Mode marginal promises alpha over all classes together, not within each.",
        PREDICTED_CLASS: "Mode predicted_class promises alpha by predicted, not by true class.",
    }
    caption = (
        "Known images by their true class. Intervals hold for all classes at once with 95%. "
        + promise.get(mode, f"Mode {mode} promises at most alpha within each class.")
    )
    return Table(heads=heads, rows=rows, caption=caption)


#: Rows of the posterior's table.
POSTERIOR_ROWS: dict[str, Callable[[PosteriorReport], str]] = {
    "accuracy": lambda f: f"{percent(f.accuracy.share)} ({between(f.accuracy)})",
    "accuracy of the accepted": lambda f: share_with_interval(f.accuracy_accepted),
    "accuracy of the rejected": lambda f: share_with_interval(f.accuracy_rejected),
    "NLL (nats)": lambda f: f"{f.nll:.4f}",
    "Brier score": lambda f: f"{f.brier:.4f}",
    "ECE": lambda f: f"{f.ece:.4f} ({f.ece_low:.4f} to {f.ece_high:.4f})",
    "ECE, debiased": lambda f: f"{f.ece_debiased:.4f}",
    "ECE that chance alone stays below": lambda f: f"{f.ece_if_calibrated:.4f}",
    "class-wise ECE": lambda f: f"{f.ece_class_wise:.4f}",
    "OCE (of how many)": lambda f: f"{number(f.oce, 2)} ({f.oce_rows:,})",
    "AURC": lambda f: f"{f.aurc:.4f}",
    "prediction sets that hold the class": lambda f: share_with_interval(f.coverage),
    "classes in a prediction set": lambda f: number(f.mean_set_size),
}


def posterior_table(evaluation: Evaluation, set_level: float) -> Table:
    """A column for the model and for each baseline."""
    found = evaluation.posteriors
    rows = tuple((name, *(cell(one) for one in found)) for name, cell in POSTERIOR_ROWS.items())
    beside = " Baselines as trained, at temperature 1." if len(found) > 1 else ""
    caption = (
        f"Of {evaluation.known.labelled:,} labelled known images, those that the gate rejects too. "
        "ECE in 15 bins of equal mass, its 95% interval behind it; chance alone: with 95%. OCE: "
        "error rate among predictions of at least 99.7%, over .3%. Prediction sets promise "
        f"{set_level:.0%}.{beside}"
    )
    return Table(heads=("", *(one.source for one in found)), rows=rows, caption=caption)


def ten_crop_table(found: Sequence[TenCrop]) -> Table:
    """Accuracy of one look and of ten, the published below."""
    ours = [
        (one.source, share_with_interval(one.single), share_with_interval(one.ten_crop))
        for one in found
    ]
    theirs = [
        (f"{row.name} ({published.OTHERS})", DASH, percent(row.accuracy / 100))
        for row in published.TABLE
        if row.accuracy is not None
    ]
    return Table(
        heads=("classifier", "accuracy, as served", "accuracy, ten crops"),
        rows=(*ours, *theirs),
        strong=frozenset(range(len(ours))),
        caption=(
            f"Of the {found[0].single.total:,} labelled known images that are stored larger than "
            "the model's input, those that the gate rejects too. As served: the whole image, "
            "stretched, once. Ten crops: four corners and the centre of the image with its shorter "
            "side at 256/224 of the input, and their mirror images; mean of the posteriors. Rows "
            f"of β and ResNet-50: {published.SOURCE}."
        ),
    )


def number(value: float | None, digits: int = 3) -> str:
    """A dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}"


def between(rate: Rate) -> str:
    """A rate's interval; a dash where there is no row."""
    return DASH if rate.share is None else f"{rate.low:.2%} to {rate.high:.2%}"


def share_with_interval(rate: Rate | None) -> str:
    """A rate with its interval; a dash where there is none."""
    return DASH if rate is None or rate.share is None else f"{rate.share:.2%} ({between(rate)})"


def mean_name(mean: Mean) -> str:
    """What a mean is called in a table."""
    return f"mean of {len(mean.pairs)}, {mean.group}"


def _mean_row(evaluation: Evaluation, mean: Mean) -> tuple[str, ...]:
    counted = [pair for pair in evaluation.pairs if pair.name in mean.pairs]
    images = f"{sum(pair.rows for pair in counted):,}"
    return (mean_name(mean), images, *_gate_cells(mean.by), DASH, DASH, *_others(evaluation, mean))


def _pair_row(evaluation: Evaluation, pair: Pair) -> tuple[str, ...]:
    name = f"{pair.name} *" if pair.excluded else pair.name
    shares = (percent(pair.rejected.share), percent(pair.abstained.share))
    return (name, f"{pair.rows:,}", *_gate_cells(pair.by), *shares, *_others(evaluation, pair))


def _gate_cells(by: Callable[[str], Found | None]) -> tuple[str, ...]:
    gate = by(GATE)
    fields = ("auroc", "tpr_01", "tpr_05", "fpr95")
    return tuple(number(getattr(gate, field) if gate else None) for field in fields)


def _others(evaluation: Evaluation, found: Pair | Mean) -> tuple[str, str, str]:
    """Input statistics only, how far the gate is ahead of them, and the best but the gate."""
    gate, plain = found.by(GATE), found.by(INPUT_ONLY)
    ahead = f"{round(gate.auroc - plain.auroc, 3) + 0.0:+.3f}" if gate and plain else DASH
    others = [one for one in found.found if one.detector != GATE]
    best = max(others, key=lambda one: one.auroc, default=None)
    said = f"{evaluation.detectors[best.detector]}: {best.auroc:.3f}" if best else DASH
    return number(plain.auroc if plain else None), ahead, said
