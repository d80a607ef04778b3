"""Figures of detection against brute force, scikit-learn and exact binomial laws."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn import metrics as sklearn_metrics

from calibration.arrays import FloatArray
from calibration.detection import (
    POINTS,
    Rate,
    clopper_pearson,
    fpr_at_tpr,
    rate_at,
    rates_by_class,
    roc_curve,
    tpr_at,
)
from calibration.errors import CalibrationError
from calibration.metrics import auroc

laws = settings(derandomize=True, deadline=None, max_examples=80)
scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)


def floats(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)


@laws
@given(scores, scores, st.sampled_from([0.05, 0.5, 0.8, 0.95, 0.999]))
def test_fpr_at_tpr_is_its_definition(known: list[float], strange: list[float], tpr: float) -> None:
    """Of all thresholds that flag enough strangers, the one that flags fewest known rows."""
    shares = [
        sum(s >= t for s in known) / len(known)
        for t in {*known, *strange}
        if sum(s >= t for s in strange) / len(strange) >= tpr
    ]
    assert fpr_at_tpr(floats(known), floats(strange), tpr) == min(shares)


@laws
@given(scores, scores)
def test_fpr95_agrees_with_scikit_learn(known: list[float], strange: list[float]) -> None:
    """As OpenOOD v1.5 takes it: strangers positive, the first point with 95% of them."""
    truth = np.repeat([0, 1], [len(known), len(strange)])
    fpr, tpr, _ = sklearn_metrics.roc_curve(truth, known + strange, drop_intermediate=False)
    expected = fpr[np.argmax(tpr >= 0.95)]
    assert fpr_at_tpr(floats(known), floats(strange)) == pytest.approx(expected, abs=1e-15)


def test_the_two_conventions_differ_and_swap_into_each_other() -> None:
    """Flagging 19 of 20 strangers takes the threshold 1, accepting 19 of 20 known rows takes 7."""
    known = floats([0] * 10 + [2] * 8 + [7, 9])
    strange = floats([0] + [1] * 4 + [8] * 15)
    assert fpr_at_tpr(known, strange) == 10 / 20
    assert fpr_at_tpr(-strange, -known) == 5 / 20


def test_fpr_at_tpr_of_extremes() -> None:
    low, high = floats(np.arange(10)), floats(np.arange(10, 20))
    assert fpr_at_tpr(low, high) == 0
    assert fpr_at_tpr(high, low) == 1
    assert fpr_at_tpr(floats([0, 0]), floats([0, 0])) == 1  # a tie tells nothing apart
    assert fpr_at_tpr(floats([0, np.inf]), floats([np.inf])) == 0.5
    assert fpr_at_tpr(floats([0, 1]), floats([-np.inf] + [2] * 19)) == 0


def test_tpr_at_counts_equality_in() -> None:
    assert tpr_at([0.01, 0.05, 0.0500001, 1], 0.05) == 0.5
    assert tpr_at(np.arange(1, 1001) / 1000, 0.05) == 0.05


@pytest.mark.parametrize(("count", "total"), [(0, 7), (7, 7), (3, 50), (49, 50), (480, 10_000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_clopper_pearson_agrees_with_scipy(count: int, total: int, level: float) -> None:
    expected = binomtest(count, total).proportion_ci(level, "exact")
    assert clopper_pearson(count, total, level) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("total", "chance"), [(20, 0.05), (300, 0.01), (300, 0.5)])
def test_the_interval_covers_at_least_its_level(total: int, chance: float) -> None:
    """Exactly, by summing over every count that may come."""
    counts = range(total + 1)
    holds = [
        low <= chance <= high for low, high in (clopper_pearson(c, total, 0.9) for c in counts)
    ]
    assert binom.pmf(counts, total, chance) @ holds >= 0.9


def test_an_interval_of_no_rows_says_nothing() -> None:
    assert clopper_pearson(0, 0) == (0, 1)
    assert rate_at([], 0.05) == Rate(count=0, total=0, share=None, low=0, high=1)


def test_rates_by_class_count_their_own_rows() -> None:
    p = [0.01, 0.05, 0.5, 0.02, 0.9, 0.001]
    labels = [0, 0, 0, 2, 2, -1]
    found = rates_by_class(p, labels, 0.05, 3, 0.9)
    assert [(rate.count, rate.total) for rate in found] == [(2, 3), (0, 0), (1, 2)]
    assert [rate.share for rate in found] == [2 / 3, None, 0.5]
    for rate in found:
        assert (rate.low, rate.high) == clopper_pearson(rate.count, rate.total, 0.9)
        assert rate.share is None or rate.low <= rate.share <= rate.high


def test_rates_of_uniform_p_hold_alpha_within_each_class() -> None:
    rng = np.random.default_rng(0)
    p, labels = rng.random(20_000), rng.integers(0, 10, 20_000)
    for alpha in (0.01, 0.05):
        for rate in rates_by_class(p, labels, alpha, 10, 1 - 0.01 / 20):
            assert rate.low <= alpha <= rate.high
    skewed = rates_by_class(np.where(labels == 3, p / 3, p), labels, 0.05, 10, 1 - 0.01 / 20)
    assert [rate.low > 0.05 for rate in skewed] == [k == 3 for k in range(10)]


@laws
@given(scores, scores)
def test_a_short_curve_is_that_of_scikit_learn(known: list[float], strange: list[float]) -> None:
    truth = np.repeat([0, 1], [len(known), len(strange)])
    expected = sklearn_metrics.roc_curve(truth, known + strange, drop_intermediate=False)
    for here, there in zip(roc_curve(floats(known), floats(strange)), expected[:2], strict=True):
        assert here == pytest.approx(there)


@pytest.mark.parametrize("shift", [0.0, 1.0, 5.0])
def test_a_long_curve_is_thinned_and_keeps_its_area(shift: float) -> None:
    rng = np.random.default_rng(0)
    known, strange = rng.normal(size=6000), rng.normal(size=3000) + shift
    fpr, tpr = roc_curve(known, strange)
    assert 100 < len(fpr) <= POINTS
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (np.diff(fpr + tpr) < 2 / (POINTS - 1) + 1 / 3000 + 1 / 6000).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(known, strange), abs=1e-3)
    edges = np.unique([*known, *strange, np.inf])
    every = {(int((known >= t).sum()), int((strange >= t).sum())) for t in edges}
    counts = np.rint([fpr * 6000, tpr * 3000]).astype(np.int64).tolist()
    assert set(zip(*counts, strict=True)) <= every


def test_a_curve_ranks_infinities() -> None:
    fpr, tpr = roc_curve(floats([-np.inf, 0]), floats([0, np.inf]))
    assert fpr.tolist() == [0, 0, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 1, 1]


@pytest.mark.parametrize("figure", [fpr_at_tpr, roc_curve])
@pytest.mark.parametrize(
    ("known", "strange", "text"),
    [([0.0, np.nan], [1.0], "1 of them NaN"), ([], [1.0], "0 known"), ([0.0], [], "0 strange")],
)
def test_sides_without_an_answer_are_refused(
    figure: Callable[[FloatArray, FloatArray], object],
    known: list[float],
    strange: list[float],
    text: str,
) -> None:
    with pytest.raises(CalibrationError, match=text):
        figure(floats(known), floats(strange))


@pytest.mark.parametrize("p_values", [[0.5, np.nan], [-0.1], [1.1], [[0.1, 0.2]], 0.5])
def test_what_is_no_p_value_is_refused(p_values: npt.ArrayLike) -> None:
    for figure in (tpr_at, rate_at):
        with pytest.raises(CalibrationError, match="expected one number from 0 to 1 for each row"):
            figure(p_values, 0.05)


def test_other_wrong_questions_are_refused() -> None:
    with pytest.raises(CalibrationError, match="found no p-value"):
        tpr_at([], 0.05)
    with pytest.raises(CalibrationError, match=r"labels: found shape \(1,\), expected \(2,\)"):
        rates_by_class([0.5, 0.5], [0], 0.05, 2)
    with pytest.raises(CalibrationError, match="found 3 of 2 rows"):
        clopper_pearson(3, 2)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(CalibrationError, match=r"level: found .*, expected a number between"):
            clopper_pearson(1, 2, level)
        with pytest.raises(CalibrationError, match=r"tpr: found .*, expected a number between"):
            fpr_at_tpr(floats([0]), floats([1]), level)
