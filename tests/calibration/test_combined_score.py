"""The combined score: exact ranks at every size, what it sees, and what it makes of the odd."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from calibration.arrays import FloatArray, IntArray
from calibration.combined_score import (
    AMBIGUITY,
    CLASS_ROWS,
    COMBINED_ROWS,
    STEP,
    CombinedScore,
)
from calibration.conformal import attained_rank, beta_binomial_interval
from calibration.errors import CalibrationError
from calibration.modes import MARGINAL, ranking
from calibration.normal_scores import LARGEST
from calibration.score_file import score_to_bytes

Rows = tuple[dict[str, FloatArray], IntArray]

NAMES = ("log_prob", "entropy", "a", "b", "c")
CLASSES = 4


def draw(rng: np.random.Generator, rows: int, classes: int = CLASSES) -> Rows:
    """Statistics whose means, and whose shapes, are those of the predicted class."""
    predicted = rng.integers(0, classes, rows)
    common = rng.standard_t(4, rows)
    values = {
        "log_prob": 2000 + 30 * common + 5 * predicted,
        "entropy": rng.exponential(size=rows),
        "a": 4.0 * predicted + 0.3 * rng.normal(size=rows),
        "b": common + (1 + predicted) * rng.normal(size=rows),
        "c": rng.poisson(3, rows).astype(np.float64),
    }
    return values, predicted


def of(rows: Rows, which: slice | IntArray) -> Rows:
    return {name: column[which] for name, column in rows[0].items()}, rows[1][which]


def fitted(rows: Rows, classes: int = CLASSES) -> CombinedScore:
    return CombinedScore.fit(*rows, classes)


def p_values(score: CombinedScore, cal: Rows, fresh: Rows) -> FloatArray:
    none = np.zeros(len(cal[1]), dtype=np.int64)
    found = ranking(MARGINAL, score(*cal)[0], none, none, 1, 0.05)
    rank, size = found.rank(score(*fresh)[0], np.zeros(len(fresh[1]), dtype=np.int64))
    return np.asarray(rank / (size + 1))


@pytest.fixture(scope="module")
def score() -> CombinedScore:
    return fitted(draw(np.random.default_rng(0), 1000))


@pytest.fixture(scope="module")
def fresh() -> Rows:
    return draw(np.random.default_rng(1), 300)


@pytest.mark.parametrize("rows", [1, 2, 30, COMBINED_ROWS - 1, COMBINED_ROWS, 150, 230, 2000])
def test_ranks_are_exact_at_every_size(rows: int) -> None:
    """Also below the rows of a covariance and of classes of their own; of one row all are alike."""
    rng = np.random.default_rng([7, rows])
    score = fitted(draw(rng, rows))
    n, m, alphas = 600, 5000, (0.01, 0.05, 0.1, 0.5)
    p = p_values(score, draw(rng, n), draw(rng, m))
    for alpha in alphas:
        low, high = beta_binomial_interval(m, attained_rank(n, alpha), n, 1 - 0.001 / 32)
        assert (p <= alpha).sum() <= high
        assert low <= (p <= alpha).sum() or (rows == 1 and set(p) == {1})


@pytest.mark.parametrize(
    ("rows", "classes", "groups"),
    [(COMBINED_ROWS - 1, 4, 1), (COMBINED_ROWS, 4, 1), (1000, 4, 5), (1000, 1, 2), (180, 4, 1)],
)
def test_it_is_sized_to_the_rows(rows: int, classes: int, groups: int) -> None:
    drawn = draw(np.random.default_rng(2), rows, classes)
    score = fitted(drawn, classes)
    assert score.rows == rows
    assert (score.views is None) == (rows < COMBINED_ROWS)
    own = np.bincount(drawn[1], minlength=classes) >= CLASS_ROWS
    assert (score.group_of[~own] == groups - 1).all()
    if score.views is not None:
        assert len(score.views.joint.means) == len(score.views.by_group.knots) == 1 + own.sum()
        assert groups == 1 + own.sum()


@pytest.mark.parametrize("rows", [20, 100, 1000])
def test_the_order_of_rows_does_not_matter(rows: int) -> None:
    """Not even where rows have the same numbers and another class."""
    values, predicted = draw(np.random.default_rng(3), rows)
    tied = {name: np.round(column / 30) + 0.0 for name, column in values.items()}, predicted
    assert len(np.unique(np.column_stack([*tied[0].values()]), axis=0)) < rows
    order = np.random.default_rng(4).permutation(rows)
    assert score_to_bytes(fitted(of(tied, order))) == score_to_bytes(fitted(tied))


@pytest.mark.parametrize("rows", [20, 1000])
def test_rows_do_not_know_their_batch(rows: int, fresh: Rows) -> None:
    score = fitted(draw(np.random.default_rng(5), rows))
    batch, _, normal = score(*fresh)
    for row in range(300):
        one, _, own = score(*of(fresh, slice(row, row + 1)))
        assert one[0] == batch[row]
        assert np.array_equal(own[0], normal[row])
    assert score(*of(fresh, slice(0)))[0].shape == (0,)


def test_s_is_the_formula_of_its_views(score: CombinedScore, fresh: Rows) -> None:
    assert score.views is not None
    assert score.tails is not None
    x, zero = np.column_stack([fresh[0][name] for name in NAMES]), np.zeros(300, dtype=np.int64)
    group = score.group_of[fresh[1]]
    surprises = score.views.surprise(x, score.over_all(x, zero), group)
    t = score.tails(np.column_stack([surprises, fresh[0]["entropy"]]), zero)
    expected = logsumexp(t + np.array([0, 0, AMBIGUITY]), axis=1)
    found, values, normal = score(*fresh)
    assert found == pytest.approx(expected, abs=STEP)
    assert np.array_equal(normal, score.over_all(x, zero))
    assert np.array_equal(values, x)


def test_without_the_entropy_there_are_two_views(fresh: Rows) -> None:
    values, predicted = draw(np.random.default_rng(0), 1000)
    del values["entropy"]
    score = fitted((values, predicted))
    assert score.tails is not None
    assert score.tails.last.shape == (1, 2)
    assert np.isfinite(score(*fresh)[0]).all()  # the entropy is there, and not asked for


def test_of_few_rows_only_the_density_counts(fresh: Rows) -> None:
    """The distance of log p(x) from its middle, on either side."""
    values, predicted = draw(np.random.default_rng(6), COMBINED_ROWS - 1)
    score = fitted((values, predicted))
    scrambled = {name: column[::-1] for name, column in fresh[0].items()}
    moved = scrambled | {"log_prob": fresh[0]["log_prob"]}
    assert np.array_equal(score(*fresh)[0], score(moved, fresh[1])[0])
    line = np.median(values["log_prob"]) + np.array([-900, -90, 0, 90, 900])
    found = score(dict.fromkeys(NAMES, line), np.zeros(5, dtype=np.int64))[0]
    assert found[0] > found[1] > found[2] < found[3] < found[4]


def test_surprises_are_held_against_rows_that_were_left_out() -> None:
    """30 statistics of 300 rows: fresh rows are no stranger to the views than the fit rows are."""
    rng = np.random.default_rng(8)
    names = [f"s{index}" for index in range(30)]

    def noise(rows: int) -> Rows:
        return dict(zip(names, rng.normal(size=(30, rows)), strict=True)), rng.integers(0, 2, rows)

    known, fresh = noise(300), noise(3000)
    score = fitted(known, 2)
    assert score.views is not None
    assert score.tails is not None

    def t(rows: Rows) -> FloatArray:
        x, zero = np.column_stack([*rows[0].values()]), np.zeros(len(rows[1]), dtype=np.int64)
        assert score.views is not None
        assert score.tails is not None
        surprises = score.views.surprise(x, score.over_all(x, zero), score.group_of[rows[1]])
        return score.tails(surprises, zero)

    assert t(fresh).mean(axis=0) == pytest.approx([0, 0], abs=0.35)
    assert (t(known).mean(axis=0) < -0.7).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [-1, 1])
def test_the_further_out_the_larger(score: CombinedScore, name: str, side: int) -> None:
    """Beyond every known value, whichever class is predicted, up to the largest score there is."""
    known, _ = draw(np.random.default_rng(0), 1000)
    middle, spread = np.median(known[name]), np.ptp(known[name])
    for predicted in range(CLASSES):
        values = {key: np.full(5, np.median(column)) for key, column in known.items()}
        values["a"][:] = 4.0 * predicted
        values[name] = middle + side * spread * np.array([1.5, 3, 10, 30, 100])
        found = score(values, np.full(5, predicted))[0]
        assert ((np.diff(found) > 0) | (found[:-1] >= LARGEST)).all()
        assert found[2] > found[1] > found[0]
        assert found[0] > np.quantile(score(*draw(np.random.default_rng(9), 500))[0], 0.99)


def test_what_is_typical_and_not_of_its_class_is_seen() -> None:
    """a = 4 y: a value of class 3 in an image predicted as class 0 is common, and strange."""
    rng = np.random.default_rng(10)
    known, cal = draw(rng, 1000), draw(rng, 500)
    stranger = {name: np.array([np.median(column)]) for name, column in known[0].items()}
    stranger["a"] = np.array([12.0])
    as_if = np.array([0])
    score = fitted(known)
    assert p_values(score, cal, (stranger, as_if))[0] == 1 / 501
    assert p_values(score, cal, (stranger, np.array([3])))[0] > 0.1
    assert score.views is not None

    def surprises(rows: Rows) -> FloatArray:
        assert score.views is not None
        x = np.column_stack([*rows[0].values()])
        shared = score.over_all(x, np.zeros(len(x), dtype=np.int64))
        return score.views.surprise(x, shared, score.group_of[rows[1]])

    joint, within = surprises((stranger, as_if))[0]
    assert joint > np.quantile(surprises(cal)[:, 0], 0.95)
    assert within > surprises(cal)[:, 1].max()

    together = known[0], np.zeros_like(known[1])  # the same rows, as if of one class
    blind = fitted(together)
    assert p_values(blind, (cal[0], np.zeros_like(cal[1])), (stranger, as_if))[0] > 0.1


def test_a_class_that_was_never_predicted_is_held_against_all_rows() -> None:
    values, predicted = draw(np.random.default_rng(11), 600, 3)
    few = of((values, predicted), np.flatnonzero((predicted < 2) | (np.arange(600) % 20 == 0)))
    score = CombinedScore.fit(*few, 5)
    assert score.group_of.tolist() == [0, 1, 2, 2, 2]
    row = {name: column[:1] for name, column in values.items()}
    found = [score(row, np.array([y]))[0][0] for y in (2, 3, 4)]
    assert np.isfinite(found[0])
    assert found == [found[0]] * 3


def test_a_statistic_that_never_varied_says_nothing_until_it_does(fresh: Rows) -> None:
    values, predicted = draw(np.random.default_rng(12), 1000)
    score = fitted((values | {"d": np.full(1000, 0.1)}, predicted))
    same = score(fresh[0] | {"d": np.full(300, 0.1)}, fresh[1])[0]
    assert np.isfinite(same).all()
    for other in (0.1 + 1e-9, -5.0, 1e300):
        moved = score(fresh[0] | {"d": np.full(300, other)}, fresh[1])[0]
        assert (moved > same).all()
        assert moved.min() > np.quantile(same, 0.99)


def test_statistics_that_are_all_constant_are_enough() -> None:
    ones = {name: np.ones(100) for name in NAMES}
    found = fitted((ones, np.zeros(100, dtype=np.int64)))(ones, np.zeros(100, dtype=np.int64))[0]
    assert len(set(found.tolist())) == 1
    assert np.isfinite(found[0])


@pytest.mark.parametrize("rows", [20, 1000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number_has_no_score_and_the_smallest_p(
    rows: int, bad: float, name: str, fresh: Rows
) -> None:
    rng = np.random.default_rng(13)
    score, cal = fitted(draw(rng, rows)), draw(rng, 500)
    values = {key: column.copy() for key, column in fresh[0].items()}
    values[name][7] = bad
    found = score(values, fresh[1])[0]
    assert np.flatnonzero(np.isnan(found)).tolist() == [7]
    others = np.arange(300) != 7
    assert np.array_equal(found[others], score(*fresh)[0][others])
    assert p_values(score, cal, (values, fresh[1]))[7] == 1 / 501


@pytest.mark.parametrize("value", [1e300, -1e300, 1.7e308])
def test_the_largest_numbers_have_a_score(score: CombinedScore, value: float) -> None:
    found = score({name: np.array([value]) for name in NAMES}, np.array([0]))[0]
    assert np.isfinite(found[0])
    assert found[0] > score(*draw(np.random.default_rng(14), 1000))[0].max()


def test_names_are_found_in_any_order(score: CombinedScore, fresh: Rows) -> None:
    backwards = {name: fresh[0][name] for name in reversed(NAMES)} | {"more": np.zeros(300)}
    assert np.array_equal(score(backwards, fresh[1])[0], score(*fresh)[0])


def test_a_missing_name_is_refused(score: CombinedScore, fresh: Rows) -> None:
    for name in NAMES:
        values = {key: column for key, column in fresh[0].items() if key != name}
        with pytest.raises(CalibrationError, match=rf"found statistics .*, expected .*{name}"):
            score(values, fresh[1])


def test_statistics_of_other_shapes_are_refused(score: CombinedScore, fresh: Rows) -> None:
    for odd in (np.zeros(3), np.zeros((300, 2))):
        with pytest.raises(CalibrationError, match=r"'b': \(3.*, expected .* each \(N,\)"):
            score(fresh[0] | {"b": odd}, fresh[1])


@pytest.mark.parametrize(
    ("names", "rows", "value", "text"),
    [
        (NAMES, 0, 1.0, r"found 0 fit rows, .* expected 1 at least, all finite"),
        (("a",), 1, 1.0, r"found 1 fit rows, .* expected 2 at least, all finite"),
        (NAMES, 100, np.nan, r"found 100 fit rows, 1 of them with a statistic that is not finite"),
        (NAMES, 100, np.inf, r"found 100 fit rows, 1 of them with a statistic that is not finite"),
        ((), 100, 1.0, r"found statistics .*\{\}, expected one at least"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    names: tuple[str, ...], rows: int, value: float, text: str
) -> None:
    values = {name: np.arange(float(rows)) for name in names}
    for column in values.values():
        column[:1] = value
    with pytest.raises(CalibrationError, match=text):
        CombinedScore.fit(values, np.zeros(rows, dtype=np.int64), 2)


@pytest.mark.parametrize("rows", range(2, 12))
def test_without_the_density_two_rows_are_enough(rows: int) -> None:
    values = {"a": np.random.default_rng(rows).normal(size=rows)}
    none = np.zeros(rows, dtype=np.int64)
    assert np.isfinite(CombinedScore.fit(values, none, 2)(values, none)[0]).all()
