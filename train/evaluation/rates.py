"""How often rows of the model's own kind are refused, against what was promised.

Two intervals, not to be confused. The Clopper-Pearson interval holds the chance behind a share,
with the one calibration in use. The band is where the share of a *perfect* gate lies, whose n
calibration rows are a draw too: the count among m rows is beta-binomial(m; l, n + 1 - l) with
l = floor((n + 1) alpha). It holds for all rows in mode marginal. Mode label_shift_safe keeps each
class at or below such a count, of the class's own n; what predicted_class promises is no rate of a
true class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibration import conformal
from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.conformal import attained_rank, beta_binomial_interval
from calibration.detection import Rate, rate_at, rates_by_class, share_of
from calibration.modes import LABEL_SHIFT_SAFE, MARGINAL
from train.evaluation.judging import JudgedSet

ALPHAS = (0.01, 0.05, 0.10)

#: Chance that a perfect gate lies in the band.
BAND_LEVEL = 0.99


@dataclass(frozen=True, kw_only=True)
class Realised:
    """The share of known rows with p_value <= ``alpha``; ``rank``: l, None without a band.

    ``band``: shares between which a perfect gate lies with ``BAND_LEVEL``, both included; None in
    a mode that does not promise it.
    """

    alpha: float
    rate: Rate
    rank: int | None
    band: tuple[float, float] | None

    @property
    def inside(self) -> bool | None:
        """Whether the share is in the band; None without one, or without rows."""
        if self.band is None or self.rate.share is None:
            return None
        return self.band[0] <= self.rate.share <= self.band[1]


@dataclass(frozen=True, kw_only=True)
class ClassRates:
    """Of the rows of one true class: ``at`` the share with p <= each of ``ALPHAS``, ``rejected``
    and ``abstained``; intervals hold for all classes at once with 95% (Bonferroni).

    ``most``: at each of ``ALPHAS`` the largest count that a perfect gate has, over all classes and
    alphas at once with 95%; None in a mode that promises nothing within a true class.
    """

    label: str
    at: tuple[Rate, ...]
    most: tuple[int, ...] | None
    rejected: Rate
    abstained: Rate

    def above(self, i: int) -> bool:
        """Whether the rate at ``ALPHAS[i]`` is above what is promised; where nothing is, whether
        its interval is above alpha, which need not be a fault."""
        rate = self.at[i]
        return rate.low > ALPHAS[i] if self.most is None else rate.count > self.most[i]


def realised(calibration: Calibration, known: JudgedSet) -> tuple[Realised, ...]:
    """At each of ``ALPHAS``, over all known rows."""
    n, m = calibration.reference_size, len(known)
    found = []
    for alpha in ALPHAS:
        rank, band = None, None
        if calibration.mode == MARGINAL:
            rank = attained_rank(n, alpha)
            low, high = beta_binomial_interval(m, rank, n, BAND_LEVEL)
            band = (low / m, high / m)
        rate = rate_at(known.decisions.p_value, alpha)
        found.append(Realised(alpha=alpha, rate=rate, rank=rank, band=band))
    return tuple(found)


def class_rates(
    calibration: Calibration, known: JudgedSet, labels: IntArray, names: Sequence[str]
) -> tuple[ClassRates, ...]:
    """For each of the K classes; ``labels`` (N,), -1 for unknown. Empty where none is known."""
    if not (labels >= 0).any():
        return ()
    level = 1 - 0.05 / len(names)
    decided = known.decisions
    at = [rates_by_class(decided.p_value, labels, a, len(names), level) for a in ALPHAS]
    return tuple(
        ClassRates(
            label=name,
            at=tuple(rates[k] for rates in at),
            most=_most(calibration, k, at[0][k].total),
            rejected=share_of(decided.rejected[labels == k], level),
            abstained=share_of(decided.abstained[labels == k], level),
        )
        for k, name in enumerate(names)
    )


def histogram_band(bins: int, n: int, m: int, level: float) -> tuple[FloatArray, FloatArray]:
    """Shares (bins,) between which a perfect gate's p-values of m rows lie, bin by bin."""
    low, high = conformal.histogram_band(bins, n, m, level)
    return low / m, high / m


def _most(calibration: Calibration, k: int, m: int) -> tuple[int, ...] | None:
    """See ``ClassRates``; m rows of class k."""
    if calibration.mode != LABEL_SHIFT_SAFE:
        return None
    n, cells = int(calibration.ranking.sizes[k]), len(ALPHAS) * calibration.classes
    level = 1 - 2 * 0.05 / cells  # central, and one side of it is asked
    return tuple(beta_binomial_interval(m, attained_rank(n, a), n, level)[1] for a in ALPHAS)
