"""PAC thresholds and their simulated promise."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import beta, betabinom, binom

from calibration.conformal import (
    attained_rank,
    beta_binomial_interval,
    pac_rank,
    pac_threshold,
    smallest_alpha,
)
from calibration.errors import CalibrationError, UnsupportedAlphaError
from calibration.typicality import two_sided_rank

#: The smallest rank of a two-sided test, which so needs a larger alpha.
MIN_RANK = 2

laws = settings(derandomize=True, deadline=None, max_examples=60)
sizes = st.integers(2, 20_000)
shares = st.floats(1e-4, 0.9999)


@pytest.mark.parametrize(("alpha", "rank"), [(0.05, 225), (0.01, 39), (0.001, 2)])
def test_the_published_ranks_of_five_thousand_scores(alpha: float, rank: int) -> None:
    assert pac_rank(5000, alpha, 0.05) == rank
    assert pac_rank(5000, alpha, 0.05, MIN_RANK) == rank
    assert pac_threshold(5000, alpha, 0.05) == rank / 5001


@pytest.mark.parametrize(
    ("alpha", "spread", "digits"), [(0.05, [0.045, 0.055], 3), (0.01, [0.0078, 0.0124], 4)]
)
def test_the_published_spread_of_the_true_rate(
    alpha: float, spread: list[float], digits: int
) -> None:
    rank = attained_rank(5000, alpha)
    assert beta.ppf([0.05, 0.95], rank, 5001 - rank).round(digits).tolist() == spread


@laws
@given(sizes, shares, st.floats(0.001, 0.9))
def test_the_rank_is_the_largest_that_holds(n: int, alpha: float, delta: float) -> None:
    """P(Beta(l, n + 1 - l) <= alpha) = P(Binomial(n, alpha) >= l): another road to it."""
    rank = pac_rank(n, alpha, delta, min_rank=0)
    assert rank == 0 or binom.sf(rank - 1, n, alpha) >= 1 - delta - 1e-9
    assert rank == n or binom.sf(rank, n, alpha) < 1 - delta + 1e-9


@laws
@given(sizes, shares, st.floats(0.001, 0.36))
def test_the_threshold_lies_below_alpha(n: int, alpha: float, delta: float) -> None:
    assert pac_threshold(n, alpha, delta, min_rank=0) < alpha


@laws
@given(sizes, shares, shares)
def test_a_larger_alpha_never_rejects_less(n: int, first: float, second: float) -> None:
    ranks = [pac_rank(n, alpha, 0.05, min_rank=0) for alpha in sorted([first, second])]
    assert ranks == sorted(ranks)


@laws
@given(sizes, st.floats(0.001, 0.5), st.integers(1, 5))
def test_the_smallest_alpha_is_supported_and_no_smaller_one(
    n: int, delta: float, min_rank: int
) -> None:
    assume(n >= min_rank)
    alpha = smallest_alpha(n, delta, min_rank)
    assert pac_rank(n, alpha, delta, min_rank) == min_rank
    with pytest.raises(UnsupportedAlphaError):
        pac_rank(n, alpha * (1 - 1e-9), delta, min_rank)


@laws
@given(sizes)
def test_the_error_names_an_alpha_that_works(n: int) -> None:
    with pytest.raises(UnsupportedAlphaError) as caught:
        pac_rank(n, 1e-9, 0.05, MIN_RANK)
    named = re.search(r"smallest supported alpha is (\S+)$", str(caught.value))
    assert named is not None
    assert pac_rank(n, float(named[1]), 0.05, MIN_RANK) == MIN_RANK


def test_an_unsupported_alpha_is_named_with_n_and_the_remedy() -> None:
    text = (
        "alpha 0.001 is too small for n = 100 reference scores at delta = 0.05: "
        "the smallest supported alpha is 0.0466"
    )
    with pytest.raises(UnsupportedAlphaError, match=f"^{re.escape(text)}$") as caught:
        pac_rank(100, 0.001, 0.05, MIN_RANK)
    assert caught.value.code == "unsupported_alpha"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_an_alpha_that_is_no_share_is_refused(alpha: float) -> None:
    text = f"alpha {alpha!r} is not between 0 and 1; with n = 100 .* smallest supported .* 0.0466"
    with pytest.raises(UnsupportedAlphaError, match=text):
        pac_rank(100, alpha, 0.05, MIN_RANK)


def test_too_few_scores_support_no_alpha() -> None:
    assert smallest_alpha(1, 0.05, MIN_RANK) == 1
    with pytest.raises(UnsupportedAlphaError, match=r"n = 1 .* support no alpha at all"):
        pac_rank(1, 0.5, 0.05, MIN_RANK)


@pytest.mark.parametrize("delta", [0.0, 1.0, float("nan")])
def test_a_delta_that_is_no_share_is_refused(delta: float) -> None:
    with pytest.raises(CalibrationError, match=r"delta: found .*, expected a number between 0 and"):
        pac_rank(100, 0.05, delta)


@pytest.mark.parametrize(("n", "alpha"), [(500, 0.05), (501, 0.02), (2000, 0.01)])
def test_the_promise_over_many_calibration_draws(n: int, alpha: float) -> None:
    """The true rejection rate of a draw is known: U(0,1) scores, so the tails that are cut.

    It exceeds alpha in a share of draws given by the Beta law, at most delta; p <= alpha alone
    exceeds it in about half of them.
    """
    draws, delta = 4000, 0.05
    scores = np.sort(np.random.default_rng(n).random((draws, n)), axis=1)

    def exceeds(rank: int) -> int:
        tail = (
            rank // 2
        )  # the two-sided rank 2k cuts below the k-th smallest, above the k-th largest
        return int((scores[:, tail - 1] + 1 - scores[:, -tail] > alpha).sum())

    taken = pac_rank(n, alpha, delta, MIN_RANK) // 2 * 2
    chance = beta.sf(alpha, taken, n + 1 - taken)
    low, high = binom.ppf([1e-6, 1 - 1e-6], draws, chance)
    assert chance <= delta
    assert low <= exceeds(taken) <= high
    assert exceeds(attained_rank(n, alpha) // 2 * 2) > 0.35 * draws


@pytest.mark.parametrize("n", [60, 500])
def test_the_cut_tails_are_what_the_rank_rejects(n: int) -> None:
    """Binds the simulation above to the code: rank <= 2k exactly outside the k-th from each end."""
    rng = np.random.default_rng(n)
    reference, fresh = np.sort(rng.random(n)), rng.random(5000)
    for k in (1, 2, 7):
        cut = (fresh < reference[k - 1]) | (fresh > reference[-k])
        assert ((two_sided_rank(reference, fresh) <= 2 * k) == cut).all()


@laws
@given(st.integers(1, 400), st.data())
def test_the_attained_rank_counts_what_p_at_most_alpha_takes(n: int, data: st.DataObject) -> None:
    on_the_edge = st.integers(1, n).map(lambda k: k / (n + 1))
    alpha = data.draw(st.one_of(shares, on_the_edge))
    ranks = range(1, n + 1)
    assert attained_rank(n, alpha) == max((r for r in ranks if r / (n + 1) <= alpha), default=0)


@pytest.mark.parametrize(("m", "rank", "n"), [(10, 1, 3), (50, 2, 20), (1000, 40, 999)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_interval_holds_its_level_and_is_central(
    m: int, rank: int, n: int, level: float
) -> None:
    law = betabinom(m, rank, n + 1 - rank)
    low, high = beta_binomial_interval(m, rank, n, level)
    assert law.cdf(high) - law.cdf(low - 1) >= level - 1e-9
    assert law.cdf(low - 1) <= (1 - level) / 2 + 1e-9
    assert law.sf(high) <= (1 - level) / 2 + 1e-9


def test_a_binomial_band_would_fail_a_perfect_gate() -> None:
    """The 99% band of 10,000 test rows alone holds 87% of perfect gates with n = 5,000."""
    law = betabinom(10_000, 250, 4751)
    low, high = binom.ppf([0.005, 0.995], 10_000, 0.05)
    assert law.cdf(high) - law.cdf(low - 1) == pytest.approx(0.87, abs=0.01)
    assert beta_binomial_interval(10_000, 250, 5000, 0.99) == (407, 601)


def test_an_impossible_rank_rejects_nothing_and_a_full_one_all() -> None:
    assert beta_binomial_interval(100, 0, 50, 0.99) == (0, 0)
    assert beta_binomial_interval(100, 51, 50, 0.99) == (100, 100)
