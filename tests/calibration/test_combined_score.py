"""The combined score: exact ranks at every size, its formula, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from calibration.arrays import FloatArray
from calibration.combined_score import (
    CLASS_ROWS,
    COMBINED_ROWS,
    STEP,
    CombinedScore,
)
from calibration.conformal import attained_rank, beta_binomial_interval
from calibration.errors import CalibrationError
from calibration.score_file import score_to_bytes
from calibration.views import AMBIGUITY
from tests.calibration.class_rows import NAMES, Rows, draw, fitted, of, p_values


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


def test_statistics_that_are_all_constant_are_enough() -> None:
    ones = {name: np.ones(100) for name in NAMES}
    found = fitted((ones, np.zeros(100, dtype=np.int64)))(ones, np.zeros(100, dtype=np.int64))[0]
    assert len(set(found.tolist())) == 1
    assert np.isfinite(found[0])


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
