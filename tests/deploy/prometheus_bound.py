"""The formulas of ``rules.yml`` as functions, and what clean traffic really does to them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import betabinom

from service.metrics import P_VALUE
from tests.deploy.prometheus_files import recorded

#: Of a window's images m, the reference's rows n and the threshold t.
Formula = Callable[[float, float, float], float]


def formula(record: str, window: str) -> Formula:
    """The arithmetic of a recorded series of ``window``, whose syntax is Python's as well.

    Refuses by ``NameError`` what is anything but m, n, t and ``sqrt``.
    """
    text = recorded()[f"{record}{window}"]
    for name, letter in {
        f"job_model:oodgate_decisions:increase{window}": "m",
        f"job_model:oodgate_p_value:count{window}": "m",
        f"job_model:oodgate_reference_images:min{window}": "n",
        f"job_model:oodgate_rejection_threshold:max{window}": "t",
    }.items():
        text = text.replace(name, letter)
    code = compile(f"({text.replace('(m > 0)', 'm')})", record, "eval")

    def value(m: float, n: float, t: float) -> float:
        return float(eval(code, {"__builtins__": {}, "sqrt": math.sqrt}, {"m": m, "n": n, "t": t}))

    return value


def false_alarm(m: int, n: int, rank: int, bound: float) -> float:
    """P(K / m > bound), K ~ BetaBinomial(m; rank, n + 1 - rank): rejections of m clean images.

    ``rank`` is l', of a threshold l' / (n + 1); n rows of reference are drawn anew too.
    """
    most = min(math.floor(m * bound), m)
    return float(1 - betabinom.pmf(np.arange(most + 1), m, rank, n + 1 - rank).sum())


def clean_distances(m: int, n: int, runs: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """What ``ks10m`` would be for m clean p-values of n rows of reference: (runs,), in [0, 1]."""
    bounds = np.array(P_VALUE.bounds)
    rng = np.random.default_rng(seed)
    return np.array([_distance(rng.random(m), rng.random(n), bounds) for _ in range(runs)])


def _distance(
    scores: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
    bounds: npt.NDArray[np.float64],
) -> float:
    """Largest |share of p <= bound - bound|; p = (1 + #{reference >= score}) / (n + 1)."""
    n = len(reference)
    at_least = n - np.searchsorted(np.sort(reference), scores, side="left")
    p_values = np.sort((1 + at_least) / (n + 1))
    share = np.searchsorted(p_values, bounds, side="right") / len(scores)
    return float(np.abs(share - bounds).max())
