"""Normal scores: laws of the maps, and another library's quantiles where they are simple."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import kstest, rankdata

from calibration.arrays import FloatArray, IntArray
from calibration.normal_scores import KNOTS, LARGEST, NEVER_SEEN, ROWS, NormalScores

laws = settings(derandomize=True, deadline=None, max_examples=60)
columns = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=40)
finite = st.floats(-1e90, 1e90)


def zeros(count: int) -> IntArray:
    return np.zeros(count, dtype=np.int64)


def scores_of(known: FloatArray, values: FloatArray) -> FloatArray:
    """Of one statistic: known values (n,) and new ones (N,) to scores (N,)."""
    maps = NormalScores.fit([np.asarray(known)[:, None]])
    return maps(np.asarray(values)[:, None], zeros(len(values)))[:, 0]


@pytest.mark.parametrize("law", ["normal", "exponential", "standard_cauchy"])
def test_rows_like_the_known_ones_get_standard_normal_scores(law: str) -> None:
    """Of 2,000 fresh rows the distance from N(0, 1) is one that 2,000 + 2,000 draws have."""
    rng = np.random.default_rng(0)
    known, fresh = getattr(rng, law)(size=(2, 2000))
    for values in (known, fresh):
        assert kstest(scores_of(known, values), "norm").statistic < 0.05
        assert np.median(scores_of(known, values)) == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("law", ["normal", "exponential", "uniform"])
def test_known_rows_get_mean_0_and_variance_1(law: str) -> None:
    """But for heavy tails, which the knots leave out and the line beyond them prolongs."""
    known = getattr(np.random.default_rng(0), law)(size=2000)
    own = scores_of(known, known)
    assert own.mean() == pytest.approx(0, abs=0.02)
    assert own.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("count", [2, 7, KNOTS])
def test_up_to_one_knot_a_row_scores_are_those_of_ranks(count: int) -> None:
    known = np.random.default_rng(count).standard_t(2, count)
    shares = (rankdata(known) - 0.5) / count
    quantiles = np.quantile(known, (np.arange(count) + 0.5) / count)
    assert scores_of(known, quantiles) == pytest.approx(ndtri((np.arange(count) + 0.5) / count))
    inner = np.abs(shares - 0.5) < 0.3
    assert scores_of(known, known)[inner] == pytest.approx(ndtri(shares)[inner], abs=0.8)


def test_normal_values_keep_their_place() -> None:
    """Of a normal statistic the map is nearly a straight line, also far beyond what is known."""
    known = 7 + 3 * ndtri((np.arange(20_000) + 0.5) / 20_000)
    values = np.linspace(-2, 16, 50)
    assert scores_of(known, values) == pytest.approx((values - 7) / 3, abs=0.01)
    far = np.array([7 - 60.0, 7 + 60.0])
    assert scores_of(known, far) == pytest.approx([-20, 20], rel=0.05)


@laws
@given(columns, st.lists(finite, min_size=2, max_size=20))
def test_a_larger_value_never_has_a_smaller_score(known: list[float], values: list[float]) -> None:
    found = scores_of(np.array(known), np.sort(values))
    assert (np.diff(found) >= -1e-9).all()
    assert np.isfinite(found).all()


@laws
@given(st.lists(st.integers(-(10**6), 10**6).map(float), min_size=2, max_size=40, unique=True))
def test_beyond_what_is_known_scores_grow_linearly(known: list[float]) -> None:
    low, high = min(known), max(known)
    steps: FloatArray = np.array([(high - low) * step for step in range(1, 5)])
    for values in (low - steps, high + steps):
        found = scores_of(np.array(known), values)
        assert (np.diff(np.abs(found)) > 0).all() or np.abs(found).max() == LARGEST
        if np.abs(found).max() < LARGEST:
            assert np.diff(found) == pytest.approx(np.diff(found)[:1].repeat(3), rel=1e-6)


@laws
@given(columns, st.integers(1, 5))
def test_only_the_place_among_the_known_matters(known: list[float], scale: int) -> None:
    """Known values moved and stretched give the same scores, and repeated ones nearly so."""
    values = np.linspace(-9, 9, 19)
    plain = scores_of(np.array(known), values)
    moved = scores_of(np.array(known) * 2.0**scale + 8, values * 2.0**scale + 8)
    assert moved == pytest.approx(plain, abs=1e-6)


@laws
@given(columns)
def test_the_order_of_rows_does_not_matter(known: list[float]) -> None:
    values = np.linspace(-9, 9, 19)
    assert np.array_equal(
        scores_of(np.array(known), values), scores_of(np.array(known[::-1]), values)
    )


def test_equal_values_stand_at_the_middle_of_their_place() -> None:
    """Half of the rows at 0: their score is the mean of the lower half's, and none is infinite."""
    known = np.concatenate([np.zeros(500), np.random.default_rng(0).exponential(size=500)])
    shares = (np.arange(KNOTS) + 0.5) / KNOTS
    assert scores_of(known, np.array([0.0]))[0] == pytest.approx(ndtri(shares[:50]).mean())
    found = scores_of(known, known)
    assert np.isfinite(found).all()
    assert found.mean() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("count", [1, 300])
def test_another_value_of_what_never_varied_is_far_outside(count: int) -> None:
    found = scores_of(np.full(count, 3.0), np.array([3.0, 3.0 + 1e-9, 2.0, 1e300]))
    assert found == pytest.approx([0, NEVER_SEEN, -NEVER_SEEN, NEVER_SEEN], abs=1e-12)


def test_a_value_that_is_no_number_has_no_score() -> None:
    """What is infinite has the largest there is; that no S is made of it is ``CombinedScore``'s."""
    for known, largest in ((np.arange(50.0), LARGEST), (np.ones(50), NEVER_SEEN)):
        found = scores_of(known, np.array([np.nan, np.inf, -np.inf, 7.0]))
        assert np.isnan(found).tolist() == [True, False, False, False]
        assert found[1:3].tolist() == [largest, -largest]


def test_no_score_is_beyond_the_largest() -> None:
    found = scores_of(np.arange(50.0), np.array([1e300, -1e300, 1.7e308]))
    assert found.tolist() == [LARGEST, -LARGEST, LARGEST]


def test_values_closer_than_numbers_divide_are_mapped() -> None:
    """Their slope would be infinite, and infinity times no distance is no number."""
    known = np.repeat([0.0, 5e-324, 1.0], 50)
    found = scores_of(known, np.array([-1.0, 0.0, 5e-324, 0.5, 1.0]))
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


def test_each_group_has_maps_of_its_own() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(80, 3)), 5 + rng.exponential(size=(300, 3)), np.ones((4, 3))]
    together = NormalScores.fit(parts)
    group = rng.integers(0, 3, 200)
    values = 3 * rng.normal(size=(200, 3))
    found = together(values, group)
    for g, part in enumerate(parts):
        alone = NormalScores.fit([part])
        own = group == g
        assert np.array_equal(found[own], alone(values[own], zeros(int(own.sum()))))


def test_each_statistic_has_a_map_of_its_own() -> None:
    rng = np.random.default_rng(2)
    known, values = rng.normal(size=(300, 2)) * [1, 100], rng.normal(size=(50, 2))
    known[:, 1] = known[:, 1].round()
    found = NormalScores.fit([known])(values, zeros(50))
    for s in range(2):
        assert np.array_equal(found[:, s], scores_of(known[:, s], values[:, s]))


@pytest.mark.parametrize("rows", [0, 1, ROWS, ROWS + 1])
def test_rows_do_not_know_their_batch(rows: int) -> None:
    rng = np.random.default_rng(3)
    maps = NormalScores.fit([rng.normal(size=(200, 4)), rng.normal(size=(90, 4))])
    values, group = rng.normal(size=(rows, 4)), rng.integers(0, 2, rows)
    batch = maps(values, group)
    assert batch.shape == (rows, 4)
    for row in range(0, rows, 51):
        one = slice(row, row + 1)
        assert np.array_equal(maps(values[one], group[one]), batch[one])
