"""Tempting ways to a p-value that fail, each beside the right way on the same simulated rows.

All rows are typical, so every rejection is false. ``share`` is of fresh rows with p <= alpha.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom, binom, chi2, kurtosis, norm

from calibration.arrays import FloatArray, IntArray
from calibration.combined_score import CombinedScore
from calibration.conformal import beta_binomial_interval
from calibration.modes import MARGINAL, ranking

ALPHA = 0.05


def conformal(reference: FloatArray, scores: FloatArray) -> FloatArray:
    """The p-values of ``scores`` (N,) ranked among ``reference`` (n,), larger = stranger."""
    none = np.zeros(len(reference), dtype=np.int64)
    found = ranking(MARGINAL, reference, none, none, 1, 0.05)
    rank, size = found.rank(scores, np.zeros(len(scores), dtype=np.int64))
    return np.asarray(rank / (size + 1))


def is_valid(p: FloatArray, n: int, level: float = 0.999) -> bool:
    """Whether the count of p <= ALPHA is one that n exchangeable reference rows give."""
    low, high = beta_binomial_interval(len(p), int((n + 1) * ALPHA), n, level)
    return low <= int((p <= ALPHA).sum()) <= high


def share(p: FloatArray) -> float:
    return float((p <= ALPHA).mean())


# (a) Fisher's chi-square over dependent statistics ------------------------------------------------


def fisher(statistics: FloatArray) -> FloatArray:
    """-2 sum_j log p_j of normal statistics (N, S) to (N,), each p_j exactly uniform."""
    return np.asarray(-2 * norm.logsf(statistics).sum(axis=1))


def dependent(rng: np.random.Generator, rows: int, correlation: float) -> FloatArray:
    """20 statistics N(0, 1) with one correlation between any two, (rows, 20)."""
    common = rng.normal(size=(rows, 1))
    own = rng.normal(size=(rows, 20))
    return np.asarray(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)


def test_fishers_chi_square_needs_independence() -> None:
    """Without it four times too many are rejected; a rank of the same sum is exact."""
    rng = np.random.default_rng(0)
    reference, fresh = fisher(dependent(rng, 2000, 0.4)), fisher(dependent(rng, 10_000, 0.4))
    assert share(chi2.sf(fresh, 40)) > 3 * ALPHA
    assert is_valid(conformal(reference, fresh), 2000)


def test_fishers_chi_square_is_right_of_independent_statistics() -> None:
    """So it is the dependence that breaks it above."""
    fresh = fisher(dependent(np.random.default_rng(1), 10_000, 0.0))
    low, high = binom.ppf([0.0005, 0.9995], 10_000, ALPHA)
    assert low <= (chi2.sf(fresh, 40) <= ALPHA).sum() <= high


# (b) A combiner refitted on the rows it is ranked among ------------------------------------------


def combined(fit: FloatArray, rows: FloatArray) -> FloatArray:
    """-log density of a Gaussian with the mean and covariance of ``fit``, but for a constant."""
    root = np.linalg.cholesky(np.linalg.inv(np.cov(fit, rowvar=False)))
    return np.asarray((((rows - fit.mean(axis=0)) @ root) ** 2).sum(axis=1))


def test_a_combiner_refitted_on_the_calibration_rows_finds_fresh_ones_strange() -> None:
    """30 statistics, 495 parameters, 200 rows: to these the density is closer than to any other."""
    rng = np.random.default_rng(2)
    fit, cal, fresh = (rng.normal(size=(rows, 30)) for rows in (200, 200, 10_000))
    refitted = conformal(combined(cal, cal), combined(cal, fresh))
    assert share(refitted) > 3 * ALPHA
    assert not is_valid(refitted, 200)
    assert is_valid(conformal(combined(fit, cal), combined(fit, fresh)), 200)


def test_refitting_shows_less_with_more_rows_but_does_not_end() -> None:
    """Ten times the rows: a fifth too many, which no single test shows and so must be ruled out."""
    rng, shares = np.random.default_rng(3), []
    for _ in range(40):
        fit, cal, fresh = (rng.normal(size=(2000, 30)) for _ in range(3))
        ways = combined(cal, cal), combined(cal, fresh), combined(fit, cal), combined(fit, fresh)
        shares.append([share(conformal(*ways[:2])), share(conformal(*ways[2:]))])
    refitted, apart = np.mean(shares, axis=0)
    assert 1.12 * ALPHA < refitted < 1.5 * ALPHA
    assert apart == pytest.approx(ALPHA, abs=0.06 * ALPHA)


def statistics(rng: np.random.Generator, rows: int) -> tuple[dict[str, FloatArray], IntArray]:
    """30 statistics that depend on each other and on one of 2 predicted classes."""
    predicted = rng.integers(0, 2, rows)
    common = rng.normal(size=rows)
    names = ["log_prob", "entropy", *(f"s{index}" for index in range(28))]
    return {name: common + predicted + rng.normal(size=rows) for name in names}, predicted


def test_the_gates_own_score_refitted_on_the_calibration_rows_is_invalid() -> None:
    """The shipped S itself: fitted on 150 other rows it is exact, fitted on the 150 it ranks not.

    That its tails are those of rows left out does not help: a new row is left out of all parts.
    """
    rng = np.random.default_rng(7)
    fit, cal, fresh = (statistics(rng, rows) for rows in (150, 150, 5000))
    refitted, apart = CombinedScore.fit(*cal, 2), CombinedScore.fit(*fit, 2)
    wrong = conformal(refitted(*cal)[0], refitted(*fresh)[0])
    assert share(wrong) > 4 * ALPHA
    assert not is_valid(wrong, 150)
    assert is_valid(conformal(apart(*cal)[0], apart(*fresh)[0]), 150)


# (c) A validity test that takes the reference for the truth ---------------------------------------


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_a_binomial_band_fails_a_perfect_gate(alpha: float) -> None:
    """A "99%" band of m = 10,000 test rows holds 87% of perfect gates with n = 5,000.

    Exactly, from the law of the count of p <= alpha over draws of reference and test rows.
    """
    n, m = 5000, 10_000
    rank = int((n + 1) * alpha)
    law = betabinom(m, rank, n + 1 - rank)

    def chance(low: float, high: float) -> float:
        return float(law.cdf(high) - law.cdf(low - 1))

    assert chance(*binom.ppf([0.005, 0.995], m, alpha)) == pytest.approx(0.87, abs=0.015)
    assert 0.99 <= chance(*beta_binomial_interval(m, rank, n, 0.99)) < 0.992


def test_that_law_is_the_one_of_the_p_values() -> None:
    """By drawing whole calibrations, so that the law above is not merely its own witness."""
    rng, n, m = np.random.default_rng(4), 500, 1000
    rank = int((n + 1) * ALPHA)
    counts = np.array(
        [
            int((conformal(rng.normal(size=n), rng.normal(size=m)) <= ALPHA).sum())
            for _ in range(1000)
        ]
    )
    low, high = binom.ppf([0.005, 0.995], m, ALPHA)
    binomial = float(((low <= counts) & (counts <= high)).mean())
    low, high = beta_binomial_interval(m, rank, n, 0.99)
    assert binomial < 0.9
    assert ((low <= counts) & (counts <= high)).mean() > 0.98


# (d) Training scores as the reference -------------------------------------------------------------


def labelled(rng: np.random.Generator, rows: int) -> tuple[FloatArray, IntArray]:
    """Two classes in 200 dimensions, their means 3 standard deviations apart along the first."""
    labels = rng.integers(0, 2, rows)
    inputs = rng.normal(size=(rows, 200))
    inputs[:, 0] += 3 * labels
    return inputs, labels


def least_squares(inputs: FloatArray, labels: IntArray) -> FloatArray:
    """Weights of a linear classifier, (D + 1,)."""
    design = np.column_stack([inputs, np.ones(len(inputs))])
    return np.asarray(np.linalg.lstsq(design, 2.0 * labels - 1)[0])


def indecision(weights: FloatArray, inputs: FloatArray) -> FloatArray:
    """Minus the margin |w x + b| whichever class is predicted, (N,); larger = stranger."""
    return np.asarray(-np.abs(np.column_stack([inputs, np.ones(len(inputs))]) @ weights))


def test_training_scores_of_an_overfitted_statistic_are_no_reference() -> None:
    """300 rows for 201 weights: training margins are large and alike, those of fresh rows are not.

    The margin of an overfitted classifier is worse, and its rank among held-out rows still exact.
    """
    rng = np.random.default_rng(5)
    train, labels = labelled(rng, 300)
    weights = least_squares(train, labels)
    cal, fresh = (indecision(weights, labelled(rng, rows)[0]) for rows in (2000, 10_000))
    by_training = conformal(indecision(weights, train), fresh)
    assert share(by_training) > 3 * ALPHA
    assert not is_valid(by_training, 300)
    assert is_valid(conformal(cal, fresh), 2000)


def test_a_statistic_that_training_never_saw_has_an_honest_training_reference() -> None:
    """So it is the overfit that breaks it: kurtosis of the input ranks the same either way."""
    rng = np.random.default_rng(6)
    train, fresh = (kurtosis(labelled(rng, rows)[0], axis=1) for rows in (300, 10_000))
    assert is_valid(conformal(train, fresh), 300)
