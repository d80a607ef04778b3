"""Calibration errors against closed forms, simulation and each other."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.calibration_error import (
    calibrated_ece,
    class_wise_ece,
    debiased_ece,
    ece,
    reliability,
)
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


def test_honest_confidences_stay_below_the_bound() -> None:
    """19 times of 20: of 200 sets 2 to 21 may be above it (99.9% of a binomial of 5%)."""
    found = [sample(200, seed=seed) for seed in range(200)]
    above = sum(ece(*drawn) > calibrated_ece(drawn[0]) for drawn in found)
    assert 2 <= above <= 21
    posterior, labels = sample(200)
    assert calibrated_ece(posterior) == calibrated_ece(posterior)
    assert ece(sharpened(posterior), labels) > calibrated_ece(sharpened(posterior))


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
