"""Distances of a recent window: of a formula, about 1 on clean traffic, large for what moved."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from calibration.arrays import FloatArray, IntArray
from calibration.errors import CalibrationError
from calibration.windows import (
    KOLMOGOROV_MEAN,
    PREDICTED_CLASS,
    RecentWindow,
    classes_moved,
    compare,
    ks_distance,
    moved,
    total_variation,
)

Columns = dict[str, FloatArray]


def rows(seed: int, count: int, shift: float = 0.0) -> tuple[Columns, IntArray]:
    rng = np.random.default_rng(seed)
    columns = {"score": rng.normal(size=count), "margin": rng.exponential(size=count) + shift}
    return columns, rng.integers(0, 4, count)


@pytest.mark.parametrize("ties", [False, True])
def test_ks_is_the_two_sample_distance(ties: bool) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=300), rng.normal(size=170) + 0.3
    if ties:
        one, other = np.round(one), np.round(other)
    assert ks_distance(one, other) == pytest.approx(ks_2samp(one, other).statistic)
    assert ks_distance(one, one) == 0
    assert ks_distance(one, other) == ks_distance(other, one)


def test_what_is_no_number_lies_at_the_strange_end() -> None:
    assert ks_distance(np.arange(4.0), np.array([0.0, 1.0, math.nan, math.inf])) == 0.5
    assert moved("a", np.arange(3.0), np.full(2, math.nan)).after == math.inf


def test_total_variation() -> None:
    assert total_variation(np.array([5, 5, 0]), np.array([0, 50, 50])) == pytest.approx(0.5)
    assert total_variation(np.array([1, 3]), np.array([10, 30])) == 0


def test_an_effect_of_1_is_chance() -> None:
    """On average, for every size of either side and number of classes."""
    for n, m, k in ((2000, 500, 10), (300, 2000, 3), (1000, 1000, 60)):
        rng, numbers, classes = np.random.default_rng(n), [], []
        shares = rng.dirichlet(np.ones(k))
        for _ in range(150):
            numbers.append(moved("a", rng.normal(size=n), rng.normal(size=m)).effect)
            counts = [rng.multinomial(size, shares) for size in (n, m)]
            classes.append(classes_moved(*counts).effect)
        assert np.mean(numbers) == pytest.approx(1, abs=0.1)  # D is discrete: a little less
        assert np.mean(classes) == pytest.approx(1, abs=0.1)


def test_kolmogorov_mean() -> None:
    assert pytest.approx(0.8687, abs=1e-4) == KOLMOGOROV_MEAN


def test_what_moved_most_comes_first() -> None:
    reference, classes = rows(0, 1000)
    recent, seen = rows(1, 500, shift=0.5)
    found = compare(reference, recent, classes, seen, 4)
    assert found[0].name == "margin"
    assert {one.name for one in found} == {"score", "margin", PREDICTED_CLASS}
    assert found[0].effect > 3 > found[1].effect
    assert found[0].after - found[0].before == pytest.approx(0.5, abs=0.15)


def test_classes_that_moved_name_one() -> None:
    one = classes_moved(np.array([50, 50, 0]), np.array([100, 60, 40]))
    assert (one.class_index, one.before, one.after) == (1, 0.5, 0.3)
    assert classes_moved(np.array([9, 0]), np.array([4, 0])).effect == 0


def test_only_what_both_sides_have() -> None:
    none: IntArray = np.empty(0, dtype=np.int64)
    found = compare(rows(0, 9)[0], {"score": np.zeros(2), "other": np.ones(2)}, none, none, 4)
    assert [one.name for one in found] == ["score"]


def test_a_window_holds_the_last_rows() -> None:
    reference, classes = rows(0, 1000)
    window = RecentWindow(reference, classes, 4, size=300)
    assert window.most_moved() == []
    recent, seen = rows(1, 1000, shift=1.0)
    for start, stop in ((0, 1), (1, 1), (1, 250), (250, 950), (950, 1000)):
        part = {name: column[start:stop] for name, column in recent.items()}
        window.add(part, seen[start:stop])
    assert len(window) == 300
    last = {name: column[-300:] for name, column in recent.items()}
    assert window.most_moved() == compare(reference, last, classes, seen[-300:], 4)
    assert [one.name for one in window.most_moved(1)] == ["margin"]


def test_a_window_that_is_not_full() -> None:
    reference, classes = rows(0, 1000)
    window = RecentWindow(reference, classes, 4)
    recent, seen = rows(1, 40)
    window.add(recent, seen)
    assert len(window) == 40
    assert window.most_moved() == compare(reference, recent, classes, seen, 4)


def test_what_a_window_refuses() -> None:
    reference, classes = rows(0, 100)
    window = RecentWindow(reference, classes, 4)
    with pytest.raises(CalibrationError, match="margin: found none of 2 numbers"):
        window.add({"score": np.zeros(2)}, np.zeros(2, dtype=np.int64))
    with pytest.raises(CalibrationError, match="score: found 1 of 2 numbers"):
        window.add({"score": np.zeros(1)}, np.zeros(2, dtype=np.int64))
    assert len(window) == 0
    with pytest.raises(CalibrationError, match="size 0: expected a window of at least 1 row"):
        RecentWindow(reference, classes, 4, size=0)
    with pytest.raises(CalibrationError, match="found 0 reference and 2 recent rows"):
        moved("a", np.empty(0), np.zeros(2))
