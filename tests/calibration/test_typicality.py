"""Ranks and p-values against definitions, laws and simulated exchangeable scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from calibration.conformal import attained_rank, beta_binomial_interval
from calibration.typicality import p_train, p_typicality, two_sided_rank

Floats = npt.NDArray[np.float64]

laws = settings(derandomize=True, deadline=None, max_examples=60)
tied = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)
finite = st.floats(-1e6, 1e6)


def taken(n: int, alpha: float) -> int:
    """How many of n + 1 ranks a two-sided p <= alpha takes: the even ones alone."""
    return attained_rank(n, alpha) // 2 * 2


def array(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float64)


def test_p_of_known_cases() -> None:
    reference = array([1, 2, 3, 4])
    scores = array([0, 1, 1.5, 2, 2.5, 4, 5])
    assert p_typicality(reference, scores).tolist() == [0.4, 0.8, 0.8, 1, 1, 0.8, 0.4]
    assert p_train(reference, scores).tolist() == [0, 0.5, 0.5, 1, 1, 0.5, 0]


def test_a_tie_counts_in_both_tails() -> None:
    reference = array([1, 1, 1, 2])
    assert two_sided_rank(reference, array([1, 2])).tolist() == [5, 4]


@laws
@given(tied, tied)
def test_p_is_its_definition(reference: list[float], scores: list[float]) -> None:
    n = len(reference)
    for score, p in zip(scores, p_typicality(np.sort(reference), array(scores)), strict=True):
        low = (1 + sum(s <= score for s in reference)) / (n + 1)
        high = (1 + sum(s >= score for s in reference)) / (n + 1)
        assert p == pytest.approx(min(1, 2 * min(low, high)), abs=1e-15)


@laws
@given(tied, tied)
def test_p_train_is_its_definition(reference: list[float], scores: list[float]) -> None:
    for score, p in zip(scores, p_train(np.sort(reference), array(scores)), strict=True):
        low = sum(s <= score for s in reference) / len(reference)
        high = sum(s >= score for s in reference) / len(reference)
        assert p == pytest.approx(min(1, 2 * min(low, high)), abs=1e-15)


@laws
@given(tied)
def test_each_of_n_plus_one_rows_against_the_others_is_exactly_valid(rows: list[float]) -> None:
    """The theorem itself: over which of the rows is the new one, P(p <= t) <= t for every t."""
    rows = [*rows, 0.0]
    p = [
        p_typicality(np.sort(rows[:i] + rows[i + 1 :]), array(rows[i : i + 1]))[0]
        for i in range(len(rows))
    ]
    for t in p:
        assert sum(q <= t for q in p) <= t * len(rows) + 1e-9


@laws
@given(st.lists(finite, min_size=1, max_size=30), st.lists(finite, min_size=1, max_size=10))
def test_high_and_low_are_treated_alike(reference: list[float], scores: list[float]) -> None:
    up = two_sided_rank(np.sort(reference), array(scores))
    down = two_sided_rank(np.sort(-array(reference)), -array(scores))
    assert up.tolist() == down.tolist()


@laws
@given(tied, tied)
def test_only_the_order_of_scores_matters(reference: list[float], scores: list[float]) -> None:
    plain = two_sided_rank(np.sort(reference), array(scores))
    bent = two_sided_rank(np.exp(np.sort(reference)), np.exp(array(scores)))
    assert plain.tolist() == bent.tolist()


@laws
@given(st.lists(finite, min_size=1, max_size=30), st.lists(finite, min_size=1, max_size=10))
def test_ranks_lie_between_two_and_n_plus_one(reference: list[float], scores: list[float]) -> None:
    ranks = two_sided_rank(np.sort(reference), array(scores))
    assert ranks.min() >= 2
    assert ranks.max() <= len(reference) + 1


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 2, 999])
def test_a_score_that_is_no_number_is_the_strangest(score: float, n: int) -> None:
    reference = np.arange(n, dtype=np.float64)
    assert two_sided_rank(reference, array([score])).tolist() == [2]
    assert p_train(reference, array([score])).tolist() == [0]


def test_without_training_scores_p_train_is_unknown() -> None:
    assert np.isnan(p_train(array([]), array([0, np.inf]))).all()


@pytest.mark.parametrize("n", [200, 5000])
@pytest.mark.parametrize("law", ["normal", "cauchy", "exponential"])
def test_realised_rates_are_beta_binomial(n: int, law: str) -> None:
    """Whatever the distribution, count{p <= alpha} of fresh rows lies in its exact interval."""
    rng = np.random.default_rng([n, len(law)])
    m, alphas = 10_000, (0.01, 0.05, 0.1, 0.5)
    u = rng.random(n + m)
    shapes = {"normal": ndtri(u), "cauchy": np.tan(np.pi * (u - 0.5)), "exponential": -np.log1p(-u)}
    reference, fresh = np.split(shapes[law], [n])
    p = p_typicality(np.sort(reference), fresh)
    for alpha in alphas:
        rank = taken(n, alpha)
        low, high = beta_binomial_interval(m, rank, n, 1 - 0.001 / (6 * len(alphas)))
        assert low <= (p <= alpha).sum() <= high


def test_ties_only_make_the_test_rarer() -> None:
    rng = np.random.default_rng(5)
    reference, fresh = np.split(rng.poisson(3, 12_000).astype(np.float64), [2000])
    p = p_typicality(np.sort(reference), fresh)
    for alpha in (0.01, 0.05, 0.2):
        _, high = beta_binomial_interval(10_000, taken(2000, alpha), 2000, 0.9999)
        assert (p <= alpha).sum() <= high


def test_training_scores_are_no_reference_and_held_out_ones_are() -> None:
    """A density with as many parameters as it can fit: its own rows look typical, others do not.

    Score: squared Mahalanobis distance under mean and covariance of 150 rows in 60 dimensions.
    """
    rng = np.random.default_rng(11)
    train, held_out, fresh = (rng.normal(size=(n, 60)) for n in (150, 1000, 4000))
    precision = np.linalg.inv(np.cov(train.T))

    def log_prob(rows: Floats) -> Floats:
        away = rows - train.mean(axis=0)
        scores: Floats = -0.5 * ((away @ precision) * away).sum(axis=1)
        return scores

    scores = log_prob(fresh)
    low, high = beta_binomial_interval(4000, taken(1000, 0.05), 1000, 0.9999)
    assert low <= (p_typicality(np.sort(log_prob(held_out)), scores) <= 0.05).sum() <= high
    assert (p_train(np.sort(log_prob(train)), scores) <= 0.05).mean() > 0.5
