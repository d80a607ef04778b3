"""Bets against uniform p-values: what a stake becomes when a p comes out, 1 on average.

A bet is a density f on (0, 1]: E f(p) = 1 for a p that is uniform given the past, so nobody wins on
clean traffic, and on other traffic log f(p) grows by as much as f resembles it (Kelly, 1956; Vovk,
Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005). Three kinds:

- on strange: f(p) = 1 - c + c e p^(e - 1), a share c of traffic with p near 0, 0 < e < 1
- on too typical: f(1 - p). Images that are all alike the most typical one are no stranger to any
  test of small p
- on sameness: a histogram of the last ``MEMORY`` p. A camera that is stuck on an *ordinary* image
  gives neither small nor large p but one and the same all the time; what comes back is bet on,
  wherever it lies. It sees any other lasting crowd of p as well, such as a camera among several

The histogram may depend on the past, as long as it is the past of p alone, which a uniform p is
independent of. Of scores that came before it would not be: their ranks tell about the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class PowerBet:
    """f(p) = 1 - ``share`` + ``share`` ``power`` p^(``power`` - 1); of 1 - p where ``mirrored``.

    ``weight``: its part of the stake; those of all bets sum to 1.
    """

    share: float
    power: float
    weight: float
    mirrored: bool = False

    def __call__(self, p: FloatArray) -> FloatArray:
        """Factors (N,) of p-values (N,) in (0, 1]."""
        near = np.maximum(1 - p, _LEAST) if self.mirrored else p
        return 1 - self.share + self.share * self.power * near ** (self.power - 1)


#: 1 - p of the largest p below 1; p = 1 has no chance, and only rounding gives it.
_LEAST = 2.0**-53

#: On strange, for few strangers and for many; and on too typical. Chosen for quick growth at 2 to
#: 10% of strangers among the strangest hundredth; other drift is seen too, a little later.
POWER_BETS = (
    PowerBet(share=0.1, power=0.5, weight=0.25),
    PowerBet(share=0.3, power=0.4, weight=0.25),
    PowerBet(share=0.1, power=0.5, weight=0.1, mirrored=True),
    PowerBet(share=0.3, power=0.4, weight=0.2, mirrored=True),
)
#: Of the bet on sameness.
SAMENESS_WEIGHT = 0.2

#: p-values that the histogram is of, its bins, and what each bin has before the first.
MEMORY, BINS, PRIOR = 100, 20, 1.0

WEIGHTS: FloatArray = np.array([*(bet.weight for bet in POWER_BETS), SAMENESS_WEIGHT])


class SamenessBet:
    """B (a + k) / (a B + m): of the last m <= ``MEMORY`` p, k were in the bin of the new one.

    B = ``BINS``, a = ``PRIOR``. The sum over bins is B, so it is a density whatever came before.
    """

    def __init__(self) -> None:
        self._past: IntArray = np.full(MEMORY, -1)

    def __call__(self, p: FloatArray) -> FloatArray:
        """Factors (N,) of p-values (N,), in their order, each remembered from then on."""
        bins = np.minimum((p * BINS).astype(np.int64), BINS - 1)
        joined = np.concatenate([self._past, bins])
        before = np.lib.stride_tricks.sliding_window_view(joined, MEMORY)[: len(bins)]
        known, same = (before >= 0).sum(axis=1), (before == bins[:, None]).sum(axis=1)
        self._past = joined[len(bins) :]
        factors: FloatArray = BINS * (PRIOR + same) / (PRIOR * BINS + known)
        return factors


class Bets:
    """All bets together: p-values (N,) to factors (N, K), in the order of ``WEIGHTS``."""

    def __init__(self) -> None:
        self._sameness = SamenessBet()

    def __call__(self, p: FloatArray) -> FloatArray:
        """Each p once, in their order."""
        return np.stack([*(bet(p) for bet in POWER_BETS), self._sameness(p)], axis=1)
