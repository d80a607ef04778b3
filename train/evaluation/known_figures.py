"""Figures of the rows that the model should know: p-values, rates by class, reliability.

Each function returns a figure that is drawn and not yet written, to be called under
``style.styled``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.calibration_error import reliability
from calibration.detection import Rate
from calibration.modes import MARGINAL
from train.evaluation.figures import P_BINS, p_shares
from train.evaluation.judging import JudgedSet
from train.evaluation.rates import ALPHAS, ClassRates, histogram_band
from train.evaluation.style import BAND, BLUE, INK, LINE, ORANGE, SOFT, blank

#: Chance that a perfect gate's bin lies in the band of the p-values' histogram.
BIN_LEVEL = 0.95

#: Classes that a figure has room for.
MOST_CLASSES = 40


def p_values(calibration: Calibration, known: JudgedSet) -> Figure:
    """The gate's p-values of known rows against uniform."""
    figure = blank(6.5, 2.9)
    axes = figure.add_subplot()
    edges = np.linspace(0, 1, P_BINS + 1)
    shares = p_shares(known.decisions.p_value)
    if calibration.mode == MARGINAL:
        n, m = calibration.reference_size, len(known)
        low, high = histogram_band(P_BINS, n, m, BIN_LEVEL)
        axes.stairs(high, edges, baseline=low, fill=True, color=BAND)
    axes.axhline(1 / P_BINS, color=INK, lw=1, ls="--")
    axes.stairs(shares, edges, color=BLUE, lw=1.6, baseline=None)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(0.1, 1.15 * float(shares.max())))
    axes.set_xlabel("p-value of a known image, in bins of 5%")
    axes.set_ylabel("share of images")
    return figure


def class_rates(classes: Sequence[ClassRates]) -> Figure:
    """Each class's share with p at most alpha, a panel an alpha; the largest shares on top."""
    shown = sorted(classes, key=lambda c: -(c.at[1].share or 0))[:MOST_CLASSES]
    figure = blank(9.5, 0.9 + 0.24 * len(shown))
    for i, alpha in enumerate(ALPHAS):
        axes = figure.add_subplot(1, len(ALPHAS), i + 1)
        above = [found.above(i) for found in shown]
        _dots(axes, [found.at[i] for found in shown], above, alpha)
        axes.set_yticks(range(len(shown)), [found.label for found in shown] if not i else [])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_title(f"share with p ≤ {alpha:g}")
    return figure


def _dots(axes: Axes, rates: Sequence[Rate], above: Sequence[bool], alpha: float) -> None:
    """Squares for rates that are ``above`` what is promised, or above alpha."""
    axes.axvline(alpha, color=INK, lw=1, ls="--")
    for y, rate in enumerate(rates):
        if rate.share is None:
            continue
        color = ORANGE if above[y] else BLUE
        axes.plot([rate.low, rate.high], [y, y], color=color, lw=1.4)
        axes.plot([rate.share], [y], "s" if above[y] else "o", color=color, ms=5, clip_on=False)
    counted = [rate.high for rate in rates if rate.share is not None]
    axes.set_xlim(0, min(1.0, 1.05 * max([alpha, *counted])))
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")


def reliability_diagram(known: JudgedSet, labels: IntArray) -> Figure:
    """Share of hits over confidence in bins of equal mass; ``labels`` (N,), -1 for unknown."""
    rows = np.flatnonzero(labels >= 0)
    posterior = known.decisions.posterior[rows]
    confidence: FloatArray = posterior.max(axis=1)
    found = reliability(confidence, posterior.argmax(axis=1) == labels[rows])
    low, high = found.accuracy_interval()
    figure = blank(4.6, 5.0)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    least = min(float(found.confidence.min()), float(low.min()), 0.9)
    upper.plot([0, 1], [0, 1], color=INK, lw=1, ls="--")
    upper.vlines(found.confidence, low, high, color=BLUE, lw=1.3)
    upper.plot(found.confidence, found.accuracy, "o", color=BLUE, ms=4.5)
    upper.set_ylim(least - 0.02, 1.01)
    upper.set_ylabel("share of hits")
    lower.hist(confidence, bins=np.linspace(least - 0.02, 1, 41), color=SOFT, ec=LINE, lw=0.3)
    lower.set_yscale("log")
    lower.set_ylabel("images")
    lower.set_xlabel("confidence in the top class")
    lower.set_xlim(least - 0.02, 1.01)
    return figure
