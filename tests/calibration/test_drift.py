"""The sequential test of drift: fair bets, independent p, false alarms as set, what it sees."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kstest

from calibration.arrays import FloatArray
from calibration.bets import BINS, MEMORY, POWER_BETS, WEIGHTS, Bets, PowerBet, SamenessBet
from calibration.drift import AlarmBudget, DriftTest, accumulate
from calibration.errors import CalibrationError
from calibration.growing_reference import GrowingReference

REFERENCE = 1000
H = AlarmBudget(days=10_000 / 86_400, rate=1)  # one false alarm in 10,000 images


def clean(seed: int, images: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=images)


def one_by_one(reference: FloatArray, scores: FloatArray, seed: int) -> FloatArray:
    """p_rnd by its formula, with every score kept."""
    draws = 1 - np.random.default_rng(seed).random(len(scores))
    known, found = list(reference), []
    for score, u in zip(scores, draws, strict=True):
        above, ties = sum(s > score for s in known), sum(s == score for s in known)
        found.append((above + u * (1 + ties)) / (len(known) + 1))
        known.append(score)
    return np.array(found)


def test_ranks_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    reference, scores = rng.integers(0, 30, 50) / 2, rng.integers(-2, 33, 700) / 2
    found = GrowingReference(reference, seed=3).p_values(scores)
    np.testing.assert_allclose(found, one_by_one(reference, scores, 3), rtol=1e-12)


def test_where_all_cells_are_known_counting_loses_nothing() -> None:
    """Scores of few values, all of them in the reference: the very same p without keeping any."""
    rng = np.random.default_rng(1)
    reference, scores = np.arange(30.0), rng.integers(0, 30, 700).astype(float)
    counting = GrowingReference(reference, seed=5, size=10)
    np.testing.assert_allclose(
        counting.p_values(scores), one_by_one(reference, scores, 5), rtol=1e-12
    )
    assert len(counting) == 730


@pytest.mark.parametrize("size", [1, 60, 100_000])
@pytest.mark.parametrize("ties", [False, True])
def test_p_values_are_uniform_and_independent(size: int, ties: bool) -> None:
    """Over many short streams with a small reference, where counting alone would show. Of each two
    p the second is uniform whatever the first was; so are the last of 40."""
    found = []
    for seed in range(1500):
        scores = clean(seed, 60)
        if ties:
            scores = np.round(scores)
        growing = GrowingReference(scores[:20], seed=seed, size=size)
        found.append(growing.p_values(scores[20:]))
    p = np.array(found)
    assert kstest(p[:, -1], "uniform").pvalue > 1e-3
    assert kstest((p[:, -1] + p[:, -2]) % 1, "uniform").pvalue > 1e-3
    # a fixed reference of 20 gives means that vary about 3 times as much
    spread = p.mean(axis=1).var() * 12 * p.shape[1]
    assert 0.88 < spread < 1.12


def test_a_reference_that_does_not_grow_fails_that() -> None:
    spreads = []
    for seed in range(1500):
        scores = clean(seed, 60)
        p = (scores[:20] > scores[20:, None]).sum(axis=1) + np.random.default_rng(seed).random(40)
        spreads.append((p / 21).mean())
    assert np.var(spreads) * 12 * 40 > 2


@pytest.mark.parametrize("bet", POWER_BETS)
def test_power_bets_are_fair(bet: PowerBet) -> None:
    """The integral over p is 1, by substituting p = x^(1 / power), which tames the pole."""
    x = (np.arange(200_000) + 0.5) / 200_000
    p = x ** (1 / bet.power)
    density = x ** (1 / bet.power - 1) / bet.power
    value = bet(1 - p if bet.mirrored else p)
    assert (value * density).mean() == pytest.approx(1, abs=1e-3)
    assert (value > 0).all()


def test_the_bet_on_sameness_is_fair_whatever_came_before() -> None:
    for past in (np.empty(0), np.full(7, 0.41), np.random.default_rng(0).random(3 * MEMORY)):
        factors = []
        for b in range(BINS):
            bet = SamenessBet()
            bet(past)
            factors.append(bet(np.array([(b + 0.5) / BINS]))[0])
        assert np.mean(factors) == pytest.approx(1)


def test_weights_are_one_stake() -> None:
    assert pytest.approx(1) == WEIGHTS.sum()
    assert Bets()(np.array([1e-300, 0.5, 1.0])).shape == (3, len(WEIGHTS))


def test_the_statistic_is_the_sum_over_starts() -> None:
    factors = np.random.default_rng(0).uniform(0.5, 1.6, size=(6, 1))
    found = accumulate(np.zeros(1), factors, math.inf)[:, 0]
    for t in range(6):
        starts = [factors[start : t + 1].prod() for start in range(t + 1)]
        assert found[t] == pytest.approx(sum(starts))


def first_alarm(test: DriftTest, scores: FloatArray) -> int | None:
    test.update(scores)
    return test.alarm_at


def test_false_alarms_are_as_rare_as_asked() -> None:
    """h = 500: the mean time of 60 streams, watched 2,000 images each, is at least h. It is
    about 1.5 h over many more (tests/bench/drift.py); bets that are unfair by 2% fail."""
    budget = AlarmBudget(days=500 / 86_400, rate=1)
    watched, alarms = 0, 0
    for seed in range(60):
        scores = clean(seed, REFERENCE + 2000)
        at = first_alarm(DriftTest(scores[:REFERENCE], budget, seed), scores[REFERENCE:])
        watched, alarms = watched + (at or 2000), alarms + (at is not None)
    assert watched / alarms > 500
    assert watched / alarms < 2500  # and the test is not asleep


def drifted(seed: int, kind: str, images: int = 1500) -> FloatArray:
    rng, scores = np.random.default_rng([9, seed]), clean(seed + 100, images)
    if kind == "strange":
        return np.where(rng.random(images) < 0.1, 2.4 + np.abs(scores), scores)
    if kind == "typical":
        return np.where(rng.random(images) < 0.2, -2.4 - np.abs(scores), scores)
    if kind == "stuck":
        return np.full(images, 0.25)
    return np.where(rng.random(images) < 0.25, 0.25, scores)  # one camera of four


@pytest.mark.parametrize(
    ("kind", "within"), [("strange", 1000), ("typical", 1000), ("stuck", 60), ("one of 4", 1500)]
)
@pytest.mark.parametrize("size", [REFERENCE, 100_000])
def test_drift_is_seen_at_the_default_budget(kind: str, within: int, size: int) -> None:
    """After clean traffic, and not before it."""
    for seed in range(3):
        test = DriftTest(clean(seed, REFERENCE), seed=seed, size=size)
        test.update(clean(seed + 50, 2000))
        assert not test.alarmed
        at = first_alarm(test, drifted(seed, kind))
        assert at is not None
        assert 2000 < at < 2000 + within


@pytest.mark.parametrize("kind", ["typical", "stuck"])
def test_bets_on_small_p_alone_would_see_neither(kind: str) -> None:
    growing = GrowingReference(clean(0, REFERENCE))
    p = growing.p_values(drifted(0, kind))
    strange = np.stack([bet(p) for bet in POWER_BETS if not bet.mirrored], axis=1)
    weights = np.array([bet.weight for bet in POWER_BETS if not bet.mirrored])
    total = accumulate(np.zeros(len(weights)), strange, math.inf) @ weights
    assert total.max() < AlarmBudget().images


def test_batches_do_not_change_the_answer() -> None:
    scores = np.round(np.concatenate([clean(1, 2500), clean(2, 500) + 1]), 2)
    whole = DriftTest(clean(0, REFERENCE), H, seed=4, size=2000)
    expected = whole.update(scores)
    cut = DriftTest(clean(0, REFERENCE), H, seed=4, size=2000)
    edges = [0, 1, 1, 300, 301, 999, 1000, 1001, 2600, 3000]
    parts = [cut.update(scores[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert (cut.score, cut.alarm_at, cut.seen) == (whole.score, whole.alarm_at, 3000)
    assert whole.alarmed
    assert whole.score == expected[-1]
    at = int(np.argmax(expected >= whole.threshold))
    assert whole.alarm_at == at + 1
    assert expected[at] >= whole.threshold > expected[:at].max()


def test_memory_is_bounded() -> None:
    test = DriftTest(clean(0, REFERENCE), size=1500)
    test.update(clean(1, 500))
    before = test.nbytes
    test.update(clean(2, 5000))
    assert test.nbytes == before
    assert test.nbytes < 8 * (REFERENCE + 1500 + 3001) + 1
    assert test.seen == 5500


def test_the_statistic_comes_down_when_the_change_is_over() -> None:
    test = DriftTest(clean(0, REFERENCE), H)
    test.update(clean(1, 100) + 3)
    assert test.threshold <= test.score < test.threshold + 2
    at = test.alarm_at
    test.update(np.random.default_rng(3).permutation(np.r_[clean(1, 4000), clean(2, 400) + 3]))
    assert test.score < test.threshold
    assert test.alarm_at == at  # it did happen


def test_reset_begins_again() -> None:
    test = DriftTest(clean(0, REFERENCE), H, seed=1)
    assert test.score == -math.inf
    test.update(clean(1, 2000) + 3)
    assert test.alarmed
    test.reset()
    assert (test.alarmed, test.seen, test.score) == (False, 0, -math.inf)
    again = test.update(clean(1, 2000) + 3)
    assert test.alarmed
    assert test.alarm_at is not None
    assert test.alarm_at < 50
    assert len(again) == 2000


def test_nothing_comes_of_nothing() -> None:
    test = DriftTest(clean(0, REFERENCE))
    assert test.update([]).shape == (0,)
    assert (test.seen, test.score, test.alarmed) == (0, -math.inf, False)


def test_what_is_not_finite() -> None:
    test = DriftTest(clean(0, REFERENCE), H)
    with pytest.raises(CalibrationError, match=r"NaN in row 2, expected numbers; leave out"):
        test.update([0.0, 1.0, math.nan])
    assert test.seen == 0
    with pytest.raises(CalibrationError, match=r"shape \(1, 2\)"):
        test.update([[0.0, 1.0]])
    test.update(np.full(20, math.inf))  # the strangest there is
    assert test.alarmed


@pytest.mark.parametrize("reference", [[], [1.0, math.nan], [math.inf], [[1.0, 2.0]]])
def test_a_reference_is_finite_numbers(reference: list[float]) -> None:
    with pytest.raises(CalibrationError, match="expected one finite number for each"):
        DriftTest(reference)


def test_budget() -> None:
    assert AlarmBudget().images == 30 * 86_400 * 100
    assert DriftTest([0.0]).threshold == pytest.approx(math.log(2.592e8))
    assert str(AlarmBudget(days=1, rate=2.5)) == "one false alarm in 1 days at 2.5 images/s"


@pytest.mark.parametrize(
    ("days", "rate", "said"),
    [
        (0, 1, "days 0: expected a finite number above 0"),
        (1, -1, "rate -1"),
        (math.nan, 1, "days nan"),
        (1, math.inf, "rate inf"),
        (1e-9, 100, "one in 0.00864 images, expected at least 100: allow more days"),
        (1e300, 1e300, "expected at least"),
    ],
)
def test_budgets_that_mean_nothing(days: float, rate: float, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        AlarmBudget(days=days, rate=rate)


def test_a_test_that_is_renewed_begins_again_after_each_alarm() -> None:
    scores = np.concatenate([clean(1, 300), clean(2, 200) + 4, clean(3, 100)])
    plain, renewed = (DriftTest(clean(0, REFERENCE), H) for _ in range(2))
    plain.update(scores)
    found = renewed.renew(scores)
    assert found[0] == plain.alarm_at
    assert len(found) > 2
    assert 300 < found[0] < 330 > max(found[1:])
    assert not renewed.alarmed
    assert renewed.seen == len(scores) - sum(found)


def test_it_is_renewed_alike_however_scores_are_cut_up() -> None:
    scores = np.concatenate([clean(1, 300), clean(2, 200) + 4, clean(3, 100)])
    whole, parts = (DriftTest(clean(0, REFERENCE), H) for _ in range(2))
    found = [at for i in range(0, len(scores), 7) for at in parts.renew(scores[i : i + 7])]
    assert found == whole.renew(scores)
    assert parts.score == whole.score
