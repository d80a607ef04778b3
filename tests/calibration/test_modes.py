"""Ranks within categories: closed forms, and what each mode promises, by simulation."""

from __future__ import annotations

import pickle
import re
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from calibration.arrays import FloatArray, IntArray
from calibration.conformal import (
    beta_binomial_interval,
    pac_rank,
    pac_threshold,
    smallest_alpha,
)
from calibration.errors import CalibrationError, UnsupportedAlphaError
from calibration.modes import (
    LABEL_SHIFT_SAFE,
    MARGINAL,
    MODES,
    PREDICTED_CLASS,
    UNKNOWN,
    Judged,
    Ranking,
    ranking,
)

laws = settings(derandomize=True, deadline=None, max_examples=60)
DELTA = 0.05

Rows = tuple[FloatArray, IntArray, IntArray]


@st.composite
def calibrations(draw: st.DrawFn) -> tuple[Rows, int]:
    """Up to 4 classes of 1 to 60 rows each, with many ties; every class is predicted."""
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    scores = rng.integers(-9, 9, len(labels)).astype(np.float64)
    return (scores, rng.permutation(labels), labels), len(sizes)


def fractions_of(judged: Judged) -> list[Fraction]:
    pairs = zip(judged.rank.tolist(), judged.size.tolist(), strict=True)
    return [Fraction(rank, size + 1) for rank, size in pairs]


def p_by_definition(scores: FloatArray, score: float) -> Fraction:
    return Fraction(1 + int((scores >= score).sum()), len(scores) + 1)


def p_of(mode: str, rows: Rows, score: float, predicted: int) -> Fraction:
    scores, chosen, labels = rows
    if mode == LABEL_SHIFT_SAFE:
        return max(p_by_definition(scores[labels == y], score) for y in np.unique(labels))
    own = scores if mode == MARGINAL else scores[chosen == predicted]
    return p_by_definition(own, score)


def test_known_ranks() -> None:
    """Class 0 has 1, 2, 3, class 1 has 2, 4; predictions swap the two classes for the rows of 2."""
    rows = [1.0, 2, 3, 2, 4], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1]
    scores, predicted = [0.0, 2, 2.5, 4, 9], [0, 0, 1, 0, 1]

    def found(mode: str) -> list[tuple[int, int]]:
        rank, size = ranking(mode, *rows, 2, 0.5).rank(scores, predicted)
        return list(zip(rank.tolist(), size.tolist(), strict=True))

    assert found(MARGINAL) == [(6, 5), (5, 5), (3, 5), (2, 5), (1, 5)]
    assert found(PREDICTED_CLASS) == [(4, 3), (3, 3), (2, 2), (1, 3), (1, 2)]
    assert found(LABEL_SHIFT_SAFE) == [(4, 3), (3, 2), (2, 2), (2, 2), (1, 2)]


@laws
@given(calibrations(), st.sampled_from(MODES))
def test_p_is_its_definition(drawn: tuple[Rows, int], mode: str) -> None:
    rows, classes = drawn
    found = ranking(mode, *rows, classes, DELTA)
    scores = np.repeat(np.arange(-10.5, 10, 0.5), classes)
    predicted = np.tile(np.arange(classes), len(scores) // classes)
    judged = found.judge(scores, predicted, found.smallest_alpha)
    expected = [p_of(mode, rows, s, c) for s, c in zip(scores, predicted.tolist(), strict=True)]
    assert fractions_of(judged) == expected
    assert judged.p_value.tolist() == [float(p) for p in expected]


@laws
@given(calibrations(), st.sampled_from(MODES), st.sampled_from([0.02, 0.05, 0.3]))
def test_rejected_is_p_at_most_the_threshold_in_exact_arithmetic(
    drawn: tuple[Rows, int], mode: str, delta: float
) -> None:
    rows, classes = drawn
    found = ranking(mode, *rows, classes, delta)
    scores = np.arange(-10.5, 10, 0.5)
    for alpha in {found.smallest_alpha, (1 + found.smallest_alpha) / 2}:
        judged = found.judge(scores, np.zeros(len(scores), dtype=np.int64), alpha)
        assert (judged.rejected == (judged.p_value <= judged.threshold)).all()
        bound = Fraction(float(judged.threshold[0])).limit_denominator(len(rows[0]) + 1)
        exact = [p <= bound for p in fractions_of(judged)]
        assert judged.rejected.tolist() == exact
        assert judged.threshold.tolist() == [found.thresholds(alpha)[0]] * len(scores)


@laws
@given(calibrations(), st.sampled_from([0.05, 0.3, 0.6]))
def test_label_shift_safe_rejects_only_what_each_class_bounds_and_always_the_strangest(
    drawn: tuple[Rows, int], delta: float
) -> None:
    """The heart of its proof, and never less than min_y l'_y / (n_y + 1) rejects."""
    (scores, _, labels), classes = drawn
    found = ranking(LABEL_SHIFT_SAFE, scores, labels, labels, classes, delta)
    fresh = np.array([*np.arange(-10, 10, 0.5), np.inf])
    alpha = found.smallest_alpha
    own = [scores[labels == y] for y in range(classes)]
    ranks = [pac_rank(len(rows), alpha, delta) for rows in own]
    lowest = min(Fraction(rank, len(rows) + 1) for rank, rows in zip(ranks, own, strict=True))
    judged = found.judge(fresh, np.zeros(len(fresh), dtype=np.int64), alpha)
    bounded = [
        all(1 + (rows >= s).sum() <= rank for rank, rows in zip(ranks, own, strict=True))
        for s in fresh
    ]
    p = fractions_of(judged)
    largest = max((q for q in p if not _kept_at(q, p, bounded)), default=Fraction(0))
    assert judged.rejected[-1]
    assert judged.rejected.tolist() == [q <= largest for q in p]
    assert all(r for q, r in zip(p, judged.rejected, strict=True) if q <= lowest)


def _kept_at(level: Fraction, p: list[Fraction], bounded: list[bool]) -> bool:
    """Whether rejecting p <= level would reject what some class's own bound keeps."""
    return any(q <= level and not inside for q, inside in zip(p, bounded, strict=True))


def test_the_smallest_class_bounds_may_not_meet_and_a_stranger_is_rejected_yet() -> None:
    """470 and 472 rows at alpha .01: 1/473 bounds the one, and no p is below 1/471."""
    labels = np.repeat([0, 1], [470, 472])
    scores = np.random.default_rng(0).random(942)
    found = ranking(LABEL_SHIFT_SAFE, scores, labels, labels, 2, DELTA)
    assert [pac_rank(n, 0.01, DELTA) for n in (470, 472)] == [1, 1]
    judged = found.judge([2.0, 0.5], [0, 0], 0.01)
    assert judged.p_value[0] == 1 / 471 > 1 / 473
    assert judged.rejected.tolist() == [True, False]


def test_a_large_class_may_limit_alpha_where_delta_is_large() -> None:
    """At p = 1/21 are the strangers to class 0 and rank 4 of 83 in class 1, all or none rejected.

    Where class 0 takes 1 rank class 1 takes 2 of the 4, so that alone would reject nothing.
    """
    delta, labels = 0.6, np.repeat([0, 1], [20, 83])
    scores = np.arange(103.0)
    found = ranking(LABEL_SHIFT_SAFE, scores, labels, labels, 2, delta)
    assert [pac_rank(n, smallest_alpha(20, delta), delta) for n in (20, 83)] == [1, 2]
    assert found.smallest_alpha == smallest_alpha(83, delta, min_rank=4) > smallest_alpha(20, delta)
    judged = found.judge([200.0, 99.5, 99.0], [0, 0, 0], found.smallest_alpha)
    assert judged.p_value.tolist() == [1 / 21, 1 / 21, 5 / 84]
    assert judged.rejected.tolist() == [True, True, False]
    with pytest.raises(UnsupportedAlphaError, match="limited by class 1"):
        found.check_alpha(smallest_alpha(20, delta))


def test_bounds_of_one_category_are_the_pac_threshold() -> None:
    rng = np.random.default_rng(0)
    predicted = np.repeat([0, 1, 2], [200, 500, 900])
    rows = rng.random(1600), predicted, predicted
    marginal = ranking(MARGINAL, *rows, 3, DELTA)
    assert marginal.sizes.tolist() == [1600]
    assert marginal.thresholds(0.05).tolist() == [pac_threshold(1600, 0.05, DELTA)] * 3
    by_class = ranking(PREDICTED_CLASS, *rows, 3, DELTA)
    assert by_class.sizes.tolist() == [200, 500, 900]
    expected = [pac_threshold(n, 0.05, DELTA) for n in (200, 500, 900)]
    assert by_class.thresholds(0.05).tolist() == expected
    judged = by_class.judge([0.5, 0.5, 0.5], [2, 0, 1], 0.05)
    assert judged.threshold.tolist() == [expected[2], expected[0], expected[1]]


def test_one_class_is_the_same_in_every_mode() -> None:
    rows = np.random.default_rng(0).random(300), np.zeros(300, np.int64), np.zeros(300, np.int64)
    fresh = np.linspace(-0.1, 1.1, 500)
    judged = [
        ranking(mode, *rows, 1, DELTA).judge(fresh, np.zeros(500, np.int64), 0.05) for mode in MODES
    ]
    for other in judged[1:]:
        assert (other.p_value == judged[0].p_value).all()
        assert (other.threshold == judged[0].threshold).all()
    assert 0 < judged[0].rejected.mean() < 0.2


# Validity over calibration draws -----------------------------------------------------------------

#: Classes of shifted normal scores: the stranger the class, the larger its scores.
MEANS = np.array([0.0, 0.4, 0.8, 1.6])


def classed(rng: np.random.Generator, rows: int, prior: npt.ArrayLike = (1, 1, 1, 1)) -> Rows:
    """Rows of the four classes under a prior; one in ten is predicted as the next class."""
    shares = np.asarray(prior, dtype=np.float64)
    labels = rng.choice(4, rows, p=shares / shares.sum())
    predicted = np.where(rng.random(rows) < 0.1, (labels + 1) % 4, labels)
    return rng.normal(MEANS[labels]), predicted, labels


def realised(mode: str, alpha: float, group: int | None = None, rows: int = 4000) -> int:
    """Fresh rows with p <= alpha, all or those predicted as ``group``, of one calibration."""
    rng = np.random.default_rng(11)
    found = ranking(mode, *classed(rng, 2000), 4, DELTA)
    scores, predicted, _ = classed(rng, 8 * rows)
    chosen = slice(rows) if group is None else np.flatnonzero(predicted == group)[:rows]
    judged = found.judge(scores[chosen], predicted[chosen], 0.1)
    assert len(judged.rank) == rows
    return int((judged.p_value <= alpha).sum())


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1])
def test_marginal_p_has_its_rate(alpha: float) -> None:
    low, high = beta_binomial_interval(4000, int(2001 * alpha), 2000, 0.999)
    assert low <= realised(MARGINAL, alpha) <= high


@pytest.mark.parametrize("group", range(4))
def test_predicted_class_p_has_its_rate_within_each_predicted_class(group: int) -> None:
    """And marginal p has not: too many of the last class, too few of the second."""
    n = int((classed(np.random.default_rng(11), 2000)[1] == group).sum())
    low, high = beta_binomial_interval(4000, int((n + 1) * 0.05), n, 0.9999)
    assert low <= realised(PREDICTED_CLASS, 0.05, group) <= high
    if group in (1, 3):
        assert not low <= realised(MARGINAL, 0.05, group) <= high


@pytest.mark.parametrize("group", range(4))
def test_label_shift_safe_p_is_valid_within_each_true_class(group: int) -> None:
    """One-sided, and used up by the strangest class, whose rank decides."""
    rng = np.random.default_rng(12)
    found = ranking(LABEL_SHIFT_SAFE, *classed(rng, 2000), 4, DELTA)
    scores, predicted, _ = classed(rng, 5000, np.eye(4)[group])
    count = int((found.judge(scores, predicted, 0.1).p_value <= 0.05).sum())
    n = int(found.sizes[group])
    low, high = beta_binomial_interval(5000, int((n + 1) * 0.05), n, 0.9999)
    assert count <= high
    assert count >= low or group < 3


@pytest.mark.parametrize("prior", [(1, 1, 1, 7), (0, 0, 1, 9), (0, 0, 0, 1)])
def test_a_shifted_prior_breaks_marginal_p_alone(prior: tuple[int, ...]) -> None:
    """More of the strangest class than there was at calibration."""
    rng = np.random.default_rng(13)
    rows = classed(rng, 4000)
    scores, predicted, _ = classed(rng, 10_000, prior)
    shares = {
        mode: float(
            (ranking(mode, *rows, 4, DELTA).judge(scores, predicted, 0.1).p_value <= 0.05).mean()
        )
        for mode in (MARGINAL, LABEL_SHIFT_SAFE)
    }
    assert shares[MARGINAL] > 0.08
    assert shares[LABEL_SHIFT_SAFE] < 0.065


# Validity of the reject flag, given the one calibration -------------------------------------------


SIZES = (150, 200, 250, 400)


def true_rates(found: Ranking, scores: FloatArray, cells: int, alpha: float) -> FloatArray:
    """The exact rejection rate of each class of ``MEANS``, when predicted as each of ``cells``.

    Rejected is what lies above the largest known score that is not: p is constant between two.
    """
    cuts = []
    for predicted in range(cells):
        judged = found.judge(scores, np.full(len(scores), predicted), alpha)
        cuts.append(scores[~judged.rejected].max())
    return np.asarray(norm.sf(np.array(cuts)[:, None] - MEANS))


def exceedances(mode: str, alpha: float, draws: int = 200) -> IntArray:
    """In how many of the calibration draws each rate promised is above alpha."""
    rng, count = np.random.default_rng(14), np.zeros(4, dtype=np.int64)
    shares = np.array([0.15, 0.2, 0.25, 0.4])
    for _ in range(draws):
        apart = mode != MARGINAL  # classes by themselves may have any fixed size
        labels = np.repeat(np.arange(4), SIZES) if apart else rng.choice(4, 1000, p=shares)
        scores = rng.normal(MEANS[labels])
        found = ranking(mode, scores, labels, labels, 4, DELTA)
        if mode == MARGINAL:
            count += true_rates(found, scores, 1, alpha)[0] @ shares > alpha
        elif mode == PREDICTED_CLASS:
            count += true_rates(found, scores, 4, alpha).diagonal() > alpha
        else:
            count += true_rates(found, scores, 1, alpha)[0] > alpha
    return count


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alpha", [0.03, 0.1])
def test_the_true_rate_of_rejection_stays_below_alpha_as_often_as_promised(
    mode: str, alpha: float
) -> None:
    """In each category by itself, at most a share delta of 200 resampled calibrations is above."""
    assert (exceedances(mode, alpha) <= binom.ppf(0.999, 200, DELTA)).all()


@pytest.mark.parametrize("group", range(4))
def test_the_true_rate_follows_the_beta_law(group: int) -> None:
    """The bound above is not idle: the exceedances are as many as the law says."""
    n, alpha = SIZES[group], 0.1
    rank = pac_rank(n, alpha, DELTA)
    chance = beta.sf(alpha, rank, n + 1 - rank)
    low, high = binom.ppf([0.001, 0.999], 200, chance)
    assert 0 < chance <= DELTA
    assert low <= exceedances(PREDICTED_CLASS, alpha)[group] <= high


def test_p_at_most_alpha_alone_would_exceed_it_half_the_time() -> None:
    rng, above = np.random.default_rng(15), 0
    for _ in range(200):
        scores = rng.random(500)
        rows = scores, np.zeros(500, np.int64), np.zeros(500, np.int64)
        judged = ranking(MARGINAL, *rows, 1, DELTA).judge(scores, rows[1], 0.1)
        above += int(1 - scores[judged.p_value > 0.1].max() > 0.1)
    assert above > 70


# What may come in ---------------------------------------------------------------------------------


def example(mode: str, rows: int = 800, seed: int = 0) -> tuple[Ranking, Rows]:
    calibration = classed(np.random.default_rng(seed), rows)
    return ranking(mode, *calibration, 4, DELTA), calibration


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_a_stranger(mode: str, score: float) -> None:
    found, _ = example(mode)
    judged = found.judge([score] * 4, np.arange(4), found.smallest_alpha)
    assert judged.rank.tolist() == [1] * 4
    assert judged.rejected.all()
    if mode == LABEL_SHIFT_SAFE:
        assert judged.size.tolist() == [found.sizes.min()] * 4


@pytest.mark.parametrize("mode", MODES)
def test_a_tie_counts_as_at_least_as_strange(mode: str) -> None:
    found, (scores, predicted, _) = example(mode)
    rank, _ = found.rank(scores, predicted)
    above, _ = found.rank(np.nextafter(scores, np.inf), predicted)
    assert (above <= rank).all()
    assert mode == LABEL_SHIFT_SAFE or (above == rank - 1).all()
    constant = ranking(mode, np.zeros(len(scores)), predicted, predicted, 4, DELTA)
    judged = constant.judge([0.0] * 4, np.arange(4), 0.5)
    assert (judged.p_value == 1).all()
    assert not judged.rejected.any()


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_mixed_alphas_is_each_row_alone(mode: str) -> None:
    found, _ = example(mode)
    scores, predicted, _ = classed(np.random.default_rng(1), 60)
    alpha = np.random.default_rng(2).choice([0.05, 0.1, 0.3], 60)
    judged = found.judge(scores, predicted, alpha)
    for i in range(60):
        alone = found.judge(scores[i : i + 1], predicted[i : i + 1], alpha[i])
        for name in ("rank", "size", "p_value", "threshold", "rejected"):
            assert getattr(alone, name)[0] == getattr(judged, name)[i]
    assert len(set(judged.threshold.tolist())) >= 3


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_batch_has_empty_answers(mode: str) -> None:
    found, _ = example(mode)
    for alpha in (0.05, np.empty(0)):
        judged = found.judge(np.empty(0), np.empty(0, np.int64), alpha)
        assert judged.p_value.shape == judged.threshold.shape == judged.rejected.shape == (0,)


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_the_calibration_rows_does_not_matter(mode: str) -> None:
    found, (known, chosen, labels) = example(mode)
    order = np.random.default_rng(3).permutation(800)
    shuffled = ranking(mode, known[order], chosen[order], labels[order], 4, DELTA)
    scores, predicted, _ = classed(np.random.default_rng(4), 500)
    assert (shuffled.sizes == found.sizes).all()
    for there, here in zip(
        shuffled.rank(scores, predicted), found.rank(scores, predicted), strict=True
    ):
        assert (there == here).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_ranking_can_be_sent_to_another_process(mode: str) -> None:
    found, _ = example(mode)
    scores, predicted, _ = classed(np.random.default_rng(5), 50)
    there = pickle.loads(pickle.dumps(found)).judge(scores, predicted, 0.1)
    assert (there.p_value == found.judge(scores, predicted, 0.1).p_value).all()


@laws
@given(calibrations(), st.sampled_from(MODES), st.sampled_from([0.01, 0.05, 0.3, 0.6]))
def test_the_smallest_alpha_is_supported_and_no_smaller_one(
    drawn: tuple[Rows, int], mode: str, delta: float
) -> None:
    rows, classes = drawn
    found = ranking(mode, *rows, classes, delta)
    found.check_alpha(found.smallest_alpha)
    with pytest.raises(UnsupportedAlphaError):
        found.check_alpha(found.smallest_alpha * (1 - 1e-9))


def test_an_unsupported_alpha_names_mode_class_rows_and_the_smallest_one() -> None:
    labels = np.repeat([0, 1, 2], [300, 100, 600])
    rows = np.random.default_rng(0).random(1000), labels, labels
    for mode in (PREDICTED_CLASS, LABEL_SHIFT_SAFE):
        found = ranking(mode, *rows, 3, DELTA)
        assert found.smallest_alpha == smallest_alpha(100, DELTA)
        text = (
            f"mode {mode}, limited by class 1: alpha 0.02 is too small for n = 100 reference "
            "scores at delta = 0.05: the smallest supported alpha is 0.0296"
        )
        with pytest.raises(UnsupportedAlphaError, match=f"^{re.escape(text)}$"):
            found.check_alpha(0.02)
        for alpha in (0.02, 0.001):  # which one class does not support, and which none does
            with pytest.raises(UnsupportedAlphaError, match=r"limited by class 1: .* is 0.0296$"):
                found.judge([0.5], [2], alpha)
    with pytest.raises(UnsupportedAlphaError, match=r"^mode marginal: alpha 0.001 .* n = 1000 "):
        ranking(MARGINAL, *rows, 3, DELTA).check_alpha(0.001)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, np.nan, np.inf])
def test_an_alpha_that_is_no_share_is_refused(mode: str, alpha: float) -> None:
    found, _ = example(mode)
    with pytest.raises(UnsupportedAlphaError, match=r"is not between 0 and 1; .* smallest"):
        found.judge([0.5], [0], alpha)


def test_a_class_without_rows_is_named_with_the_remedy() -> None:
    scores, two = np.arange(6.0), np.array([0, 2, 0, 2, 0, 2])
    three = np.array([0, 1, 2, 0, 1, 2])
    text = r"class 1 \(1 of 3 classes have none\); calibrate on more rows, or in mode marginal"
    with pytest.raises(CalibrationError, match=rf"predicted_class: .* predicted {text}"):
        ranking(PREDICTED_CLASS, scores, two, three, 3, DELTA)
    with pytest.raises(CalibrationError, match=rf"label_shift_safe: .* true {text}"):
        ranking(LABEL_SHIFT_SAFE, scores, three, two, 3, DELTA)
    assert ranking(MARGINAL, scores, two, two, 3, DELTA).sizes.tolist() == [6]


def test_unknown_labels_are_refused_where_they_are_needed() -> None:
    scores, predicted = np.arange(4.0), np.array([0, 1, 0, 1])
    labels = np.array([0, 1, UNKNOWN, 1])
    text = r"1 of 4 calibration rows have no label; .* label them, or calibrate in mode marginal or"
    with pytest.raises(CalibrationError, match=text):
        ranking(LABEL_SHIFT_SAFE, scores, predicted, labels, 2, DELTA)
    for mode in (MARGINAL, PREDICTED_CLASS):
        assert ranking(mode, scores, predicted, labels, 2, DELTA).sizes.sum() == 4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mode": "fair"}, "mode: found 'fair', expected one of marginal, predicted_class, label"),
        ({"delta": 1.0}, "delta: found 1.0, expected a number between 0 and 1"),
        ({"delta": float("nan")}, "delta: found nan"),
        ({"scores": [1.0, np.nan]}, "found 2 rows, 1 of them not finite"),
        ({"scores": [1.0, np.inf]}, "1 of them not finite"),
        ({"scores": [], "predicted": [], "labels": []}, "found 0 rows"),
        ({"scores": [1.0]}, r"predicted: found shape \(2,\) for scores \(1,\)"),
        ({"labels": [0]}, r"labels: found shape \(1,\)"),
        ({"labels": [0.0, 1.0]}, "labels: found float64 values, expected whole numbers"),
        ({"labels": [0, 2]}, "labels: found classes 0 to 2, expected 0 to 1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict[str, object], text: str) -> None:
    good: dict[str, object] = {
        "mode": LABEL_SHIFT_SAFE,
        "scores": [1.0, 2.0],
        "predicted": [0, 1],
        "labels": [0, 1],
        "classes": 2,
        "delta": DELTA,
    }
    with pytest.raises(CalibrationError, match=text):
        ranking(**(good | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "predicted", "alpha", "text"),
    [
        ([0.5], [4], 0.1, "predicted: found classes 4 to 4, expected 0 to 3"),
        ([0.5], [-1], 0.1, "predicted: found classes -1 to -1"),
        ([0.5], [0, 1], 0.1, r"predicted: found shape \(2,\)"),
        ([[0.5]], [[0]], 0.1, r"expected \(N,\) for both"),
        ([0.5], [0], [0.1, 0.1], r"alpha: found shape \(2,\), expected \(\) or \(1,\)"),
    ],
)
def test_questions_that_do_not_fit_are_refused(
    scores: npt.ArrayLike, predicted: npt.ArrayLike, alpha: npt.ArrayLike, text: str
) -> None:
    found, _ = example(PREDICTED_CLASS)
    with pytest.raises(CalibrationError, match=text):
        found.judge(scores, predicted, alpha)
