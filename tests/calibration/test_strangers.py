"""What the combined score makes of images that are like nothing it knows."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.arrays import FloatArray
from calibration.combined_score import CombinedScore
from calibration.normal_scores import LARGEST
from tests.calibration.class_rows import CLASSES, NAMES, Rows, draw, fitted, of, p_values


@pytest.fixture(scope="module")
def score() -> CombinedScore:
    return fitted(draw(np.random.default_rng(0), 1000))


@pytest.fixture(scope="module")
def fresh() -> Rows:
    return draw(np.random.default_rng(1), 300)


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
