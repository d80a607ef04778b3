"""The false discovery rate over a set of images that share one reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from calibration.arrays import FloatArray
from calibration.errors import CalibrationError
from calibration.multiple import critical_p, fewest_found, strangers

#: Sets of 200 images, 20 of them strangers, each with a reference of its own.
SETS, IMAGES, STRANGE, REFERENCE = 400, 200, 20, 999


PValues = Callable[[FloatArray, FloatArray], FloatArray]


def conformal(scores: FloatArray, reference: FloatArray) -> FloatArray:
    """(1 + how many of the reference are at least as large) / (n + 1)."""
    above = len(reference) - np.searchsorted(np.sort(reference), scores, side="left")
    return np.asarray((1 + above) / (len(reference) + 1))


def two_sided(scores: FloatArray, reference: FloatArray) -> FloatArray:
    tails = conformal(scores, reference), conformal(-scores, -reference)
    return np.asarray(np.minimum(1, 2 * np.minimum(*tails)))


@pytest.mark.parametrize("p_values", [conformal, two_sided])
@pytest.mark.parametrize("q", [0.05, 0.2])
def test_the_rate_is_held_over_shared_references(p_values: PValues, q: float) -> None:
    """And nearly used up, so that the test would see a rate twice as high; power is real."""
    rng = np.random.default_rng(0)
    false_shares, powers = [], []
    for _ in range(SETS):
        reference = rng.normal(size=REFERENCE)
        scores = rng.normal(size=IMAGES)
        scores[:STRANGE] += 4
        named = strangers(p_values(scores, reference), q)
        false_shares.append(named[STRANGE:].sum() / max(1, named.sum()))
        powers.append(named[:STRANGE].mean())
    error = np.std(false_shares) / np.sqrt(SETS)
    share = q * (1 - STRANGE / IMAGES)
    assert np.mean(false_shares) <= share + 3 * error
    assert np.mean(false_shares) >= share / 2
    assert np.mean(powers) > 0.6


def test_naming_each_at_alpha_holds_no_such_rate() -> None:
    """What the procedure is for: with 180 typical images p <= .05 names nine of them."""
    rng = np.random.default_rng(0)
    reference, scores = rng.normal(size=REFERENCE), rng.normal(size=IMAGES)
    scores[:STRANGE] += 4
    p = conformal(scores, reference)
    named = p <= 0.05
    assert named[STRANGE:].sum() / named.sum() > 0.2
    assert strangers(p, 0.05).sum() < named.sum()


def test_by_hand() -> None:
    """Thresholds .025, .05, .075, .1: the third holds, so the two below it are named with it."""
    p = [0.074, 0.9, 0.03, 0.06]
    assert strangers(p, 0.1).tolist() == [True, False, True, True]
    assert strangers([], 0.1).tolist() == []
    assert not strangers([1.0, 1.0], 0.1).any()


@pytest.mark.parametrize(
    ("m", "q", "smallest", "fewest"),
    [
        (200, 0.1, 1 / 1000, 2),
        (200, 0.1, 2 / 5001, 1),
        (10_000, 0.05, 1 / 5001, 40),
        (10, 0.1, 0.2, None),
    ],
)
def test_the_fewest_that_can_be_found(
    m: int, q: float, smallest: float, fewest: int | None
) -> None:
    assert fewest_found(m, q, smallest) == fewest
    p = np.ones(m)
    if fewest is None:
        assert not strangers(np.full(m, smallest), q).any()
        return
    p[:fewest] = smallest
    assert strangers(p, q).sum() == fewest
    p[0] = 1.0
    assert fewest == 1 or not strangers(p, q).any()


@pytest.mark.parametrize("p_values", [[0.5, np.nan], [-0.1], [1.1], [[0.1, 0.2]], 0.5])
def test_what_is_no_p_value_is_refused(p_values: list[float]) -> None:
    with pytest.raises(CalibrationError, match="expected one number from 0 to 1 for each image"):
        strangers(p_values, 0.1)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, np.nan, np.inf])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(CalibrationError, match=r"q .*: expected a number between 0 and 1"):
        strangers([0.5], share)
    with pytest.raises(CalibrationError, match=r"q .*: expected a number between 0 and 1"):
        fewest_found(10, share, 0.1)
    with pytest.raises(CalibrationError, match=r"smallest_p .*: expected a number between 0 and 1"):
        fewest_found(10, 0.1, share)


@pytest.mark.parametrize("q", ["0.01", "0.05", "0.1", "0.2", "0.3"])
def test_both_answers_are_those_of_exact_arithmetic(q: str) -> None:
    """Where a rank is q k / m to the last digit, too."""
    level = Fraction(q)
    for m in (1, 7, 14, 60, 100):
        for n in (99, 199, 215, 999):
            for rank in (1, 2, 3, 17):
                exact = math.ceil(m * Fraction(rank, n + 1) / level)
                expected = exact if exact <= m else None
                p = rank / (n + 1)
                assert fewest_found(m, float(level), p) == expected
                together = np.ones(m)
                together[: exact if expected else m] = p
                assert strangers(together, float(level)).sum() == (expected or 0)


@pytest.mark.parametrize("n", [1, 9, 99, 999])
@pytest.mark.parametrize("q", [0.01, 0.05, 0.1, 0.3, 1 - 1e-13])
def test_counts_of_p_values_say_as_much_as_the_p_values(n: int, q: float) -> None:
    rng = np.random.default_rng(n)
    some = 0
    for m in (1, 3, 20, 400):
        for share in (0.0, 0.05, 0.5, 1.0):
            ranks = rng.integers(1, n + 2, m)
            ranks[rng.random(m) < share] = 1
            p = ranks / (n + 1)
            largest, named = critical_p(Counter(p.tolist()), q), strangers(p, q)
            some += int(named.any())
            expected = named if largest is None else p <= largest
            assert named.tolist() == expected.tolist()
            assert largest is None or largest in p
            assert (largest is None) == (not named.any())
    assert some or 1 / (n + 1) > q


@pytest.mark.parametrize("q", [0.01, 0.05, 0.1, 0.2, 0.3])
def test_the_largest_p_is_exact_where_a_rank_is_on_the_line(q: float) -> None:
    """k equal p of q k / m: named whatever the quotient of floats is."""
    level, tried = Fraction(str(q)), 0
    for m in (7, 20, 60, 100):
        for n in (99, 199, 215, 999):
            for rank in (1, 2, 3, 17):
                k = m * Fraction(rank, n + 1) / level
                if k.denominator != 1 or k > m:
                    continue
                tried += 1
                p = rank / (n + 1)
                together, fewer = {p: int(k), 1.0: m - int(k)}, {p: int(k) - 1, 1.0: m - int(k) + 1}
                assert critical_p(together, q) == (p if k else None)
                assert critical_p(fewer, q) is None
    assert tried


def test_no_p_value_has_none_that_is_named() -> None:
    assert critical_p({}, 0.1) is None
    assert critical_p({0.001: 0, 0.9: 3}, 0.1) is None


@pytest.mark.parametrize("counts", [{math.nan: 1}, {-0.1: 1}, {1.1: 1}, {0.5: -1}])
def test_what_is_no_count_of_p_values_is_refused(counts: dict[float, int]) -> None:
    with pytest.raises(CalibrationError, match="expected a number from 0 to 1 that occurs 0"):
        critical_p(counts, 0.1)
    with pytest.raises(CalibrationError, match=r"q 1.0: expected a number between 0 and 1"):
        critical_p({}, 1.0)
