"""Calibration errors against closed forms, simulation and each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from calibration import calibration_error
from calibration.arrays import FloatArray
from calibration.calibration_error import (
    BINS,
    calibrated_ece,
    class_wise_ece,
    debiased_ece,
    ece,
    ece_interval,
    reliability,
)
from calibration.errors import CalibrationError
from tests.calibration.posteriors import sample, sharpened


def test_ece_of_one_confidence_is_its_distance_from_accuracy() -> None:
    posterior = np.tile([0.8, 0.2], (100, 1))
    assert ece(posterior, np.repeat([0, 1], [65, 35])) == pytest.approx(0.15)
    assert ece(posterior, np.repeat([0, 1], [80, 20])) == pytest.approx(0, abs=1e-12)


def test_ece_bins_have_equal_mass() -> None:
    """30 rows in 15 bins are pairs; each pair has one right and one wrong: |0.5 - confidence|."""
    confidence = np.linspace(0.5, 0.99, 30)
    posterior = np.stack([confidence, 1 - confidence], axis=1)
    expected = np.abs(confidence.reshape(15, 2).mean(axis=1) - 0.5).mean()
    assert ece(posterior, np.tile([0, 1], 15)) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, 7, 900])
def test_ece_does_not_depend_on_the_order_of_rows(rows: int) -> None:
    posterior, labels = sample(rows)
    posterior = np.round(posterior, 1)  # many ties
    order = np.random.default_rng(1).permutation(rows)
    assert ece(posterior[order], labels[order]) == pytest.approx(ece(posterior, labels), abs=1e-12)


def test_ece_tells_overconfident_from_calibrated() -> None:
    posterior, labels = sample(20_000)
    assert ece(posterior, labels) < 0.02
    assert ece(sharpened(posterior), labels) > 0.1


def test_bins_say_what_a_diagram_shows() -> None:
    confidence = np.array([0.5, 0.6, 0.9, 1.0])
    found = reliability(confidence, np.array([False, True, True, True]), bins=2)
    assert found.rows.tolist() == [2, 2]
    np.testing.assert_allclose(found.confidence, [0.55, 0.95])
    np.testing.assert_allclose(found.accuracy, [0.5, 1.0])
    np.testing.assert_allclose(found.weights, [0.5, 0.5])


def test_error_bars_are_exact_binomial() -> None:
    """Each end is where its tail is half of what is left, and what another library gives."""
    confidence = np.repeat([0.3, 0.6, 0.9, 0.95], [3, 40, 25, 7])
    hits = [0, 22, 25, 6]
    correct = np.concatenate([np.arange(n) < k for n, k in zip([3, 40, 25, 7], hits, strict=True)])
    found = reliability(confidence, correct)
    for level in (0.5, 0.95):
        low, high = found.accuracy_interval(level)
        for b, (n, k) in enumerate(zip([3, 40, 25, 7], hits, strict=True)):
            other = binomtest(k, n).proportion_ci(level, method="exact")
            assert (low[b], high[b]) == pytest.approx((other.low, other.high))
        assert low[0] == 0
        assert high[2] == 1
        assert binom.cdf(22, 40, high[1]) == pytest.approx((1 - level) / 2)


def test_the_bias_is_that_of_resampling() -> None:
    """One bin of 58 rows at confidence .8, 44 of them right: what |N(gap, s)| exceeds |gap| by."""
    posterior, labels = np.tile([0.8, 0.2], (58, 1)), np.repeat([0, 1], [44, 14])
    gap, error = 0.8 - 44 / 58, np.sqrt(0.75 * 0.25 / 58)
    draws = np.random.default_rng(0).normal(gap, error, 1_000_000)
    bias = np.abs(draws).mean() - gap
    assert debiased_ece(posterior, labels) == pytest.approx(gap - bias, abs=2e-4)
    assert ece(posterior, labels) == pytest.approx(gap)


@pytest.mark.parametrize("rows", [60, 300, 4000])
def test_of_a_calibrated_posterior_a_part_of_the_bias_is_left(rows: int) -> None:
    """2 - sqrt 2 where bins are large."""
    found = [sample(rows, seed=seed) for seed in range(300)]
    plain = np.mean([ece(*drawn) for drawn in found])
    debiased = np.mean([debiased_ece(*drawn) for drawn in found])
    assert 0.54 < debiased / plain < 0.64


@pytest.mark.parametrize("rows", [1, 10])
def test_bins_of_one_row_are_debiased_too(rows: int) -> None:
    posterior, labels = sample(rows)
    assert 0 <= debiased_ece(posterior, labels) < ece(posterior, labels)


def test_of_many_rows_little_is_taken_off() -> None:
    posterior, labels = sample(100_000)
    sharper = sharpened(posterior)
    assert debiased_ece(sharper, labels) == pytest.approx(ece(sharper, labels), abs=1e-4)


def test_honest_confidences_stay_below_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """19 times of 20: of 200 sets 2 to 21 may be above it (99.9% of a binomial of 5%).

    With fewer redrawings, which make the bound rougher and not another one on average.
    """
    monkeypatch.setattr(calibration_error, "DRAWS", 150)
    found = [sample(200, seed=seed) for seed in range(200)]
    above = sum(ece(*drawn) > calibrated_ece(drawn[0]) for drawn in found)
    assert 2 <= above <= 21
    posterior, labels = sample(200)
    assert calibrated_ece(posterior) == calibrated_ece(posterior)
    assert ece(sharpened(posterior), labels) > calibrated_ece(sharpened(posterior))


def true_error(confidence: FloatArray, drawn: FloatArray, chance: FloatArray) -> float:
    """Error of the bins of ``confidence``, over all of ``drawn`` and their ``chance`` of a hit."""
    edges = np.unique(np.sort(confidence)[np.arange(1, BINS) * len(confidence) // BINS])
    index = np.searchsorted(edges, drawn, side="right")
    return float(np.abs(np.bincount(index, weights=chance - drawn)).sum() / len(drawn))


@pytest.mark.parametrize(
    ("power", "least", "most"),
    [(1.0, 0, 1e-9), (1.1, 0.01, 0.03), (1.4, 0.06, 0.09), (3.0, 0.2, 0.25), (0.6, 0.1, 0.13)],
)
@pytest.mark.parametrize("rows", [100, 600])
def test_the_interval_holds_the_true_error(
    rows: int, power: float, least: float, most: float
) -> None:
    """19 times of 20 at no error, a small and a large one, too sure and not sure enough.

    Of 240 sets as many as 97.5% of a binomial of 95%, the least: 221.
    """
    many, _ = sample(20_000, seed=999)
    drawn, chance = sharpened(many, power).max(axis=1), many.max(axis=1)
    errors, held = [], 0
    for seed in range(240):
        honest, labels = sample(rows, seed=seed)
        posterior = sharpened(honest, power)
        low, high = ece_interval(posterior, labels, resamples=200, seed=seed)
        errors.append(true_error(posterior.max(axis=1), drawn, chance))
        held += low <= errors[-1] <= high
    assert least <= np.mean(errors) <= most
    assert held >= binom.ppf(0.025, 240, 0.95)


def test_percentiles_of_redrawn_errors_do_not_hold_it() -> None:
    """A demonstration: noise only adds to an error of 0, and redrawing adds it once more."""
    held = 0
    for seed in range(60):
        posterior, labels = sample(600, seed=seed)
        rng = np.random.default_rng(seed)
        picks = rng.integers(600, size=(100, 600))
        low = np.quantile([ece(posterior[pick], labels[pick]) for pick in picks], 0.025)
        held += low <= 0.001
        assert ece_interval(posterior, labels, resamples=200)[0] < low
    assert held == 0


@pytest.mark.parametrize("sure", [0.9, 0.999])
def test_rows_without_an_error_do_not_prove_that_there_are_none(sure: float) -> None:
    """300 hits of 300: of an error rate of .8% that has a chance of 9%, so it must be within."""
    posterior, labels = np.tile([sure, 1 - sure], (300, 1)), np.zeros(300)
    low, high = ece_interval(posterior, labels)
    assert low <= abs(0.992 - sure) <= high
    assert low <= 1 - sure <= high


@pytest.mark.parametrize("rows", [1, 2, 10, 2000])
@pytest.mark.parametrize("power", [1.0, 3.0])
def test_the_interval_is_in_range_around_the_estimates(rows: int, power: float) -> None:
    posterior, labels = sample(rows)
    posterior = sharpened(posterior, power)
    low, high = ece_interval(posterior, labels)
    assert 0 <= low <= debiased_ece(posterior, labels) <= ece(posterior, labels) <= high <= 1
    assert ece_interval(posterior, labels) == (low, high)
    wide = ece_interval(posterior, labels, level=0.99)
    assert wide[0] <= low
    assert wide[1] >= high


def test_the_interval_shrinks_with_the_root_of_rows() -> None:
    posterior, labels = sample(8000)
    sharper = sharpened(posterior)
    narrow, wide = ece_interval(sharper, labels), ece_interval(sharper[:500], labels[:500])
    assert narrow[0] > calibrated_ece(sharper, level=0.975)
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    posterior, labels = sample(20)
    with pytest.raises(CalibrationError, match=r"level: found .*, expected a number between 0 and"):
        ece_interval(posterior, labels, level=level)
    with pytest.raises(CalibrationError, match="level: found"):
        reliability(posterior.max(axis=1), labels == 0).accuracy_interval(level)


def test_classes_hide_behind_the_top_one() -> None:
    """Confidence .8 throughout: right 7 times of 10 for one class and 9 of 10 for the other."""
    posterior = np.repeat([[0.8, 0.2], [0.2, 0.8]], 100, axis=0)
    labels = np.repeat([0, 1, 1, 0], [70, 30, 90, 10])
    assert ece(posterior, labels) == pytest.approx(0, abs=1e-12)
    assert class_wise_ece(posterior, labels) == pytest.approx(0.1)


def test_class_wise_of_a_calibrated_posterior_is_small() -> None:
    posterior, labels = sample(20_000)
    assert class_wise_ece(posterior, labels) < 0.01
    assert class_wise_ece(sharpened(posterior), labels) > 0.05
