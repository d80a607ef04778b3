"""A Gaussian a group: densities, shrinkage and its limits, against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage

from calibration.arrays import FloatArray
from calibration.class_gaussians import (
    KAPPA,
    MEAN_ROWS,
    RIDGE,
    ClassGaussians,
    _shrunk_covariance,
)


def parts_of(sizes: list[int], dimensions: int = 4, seed: int = 0) -> list[FloatArray]:
    """Groups with a mean and a shape each."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=dimensions)
        + rng.normal(size=(n, dimensions)) @ rng.normal(size=(dimensions, dimensions))
        for n in sizes
    ]


def fitted(parts: list[FloatArray]) -> ClassGaussians:
    return ClassGaussians.fit(parts, np.concatenate(parts))


def covariance(gaussians: ClassGaussians, g: int) -> FloatArray:
    whitening = gaussians.whitening[g]
    return np.asarray(np.linalg.inv(whitening @ whitening.T))


def test_surprise_is_minus_the_log_density_but_for_a_constant() -> None:
    parts = parts_of([300, 80, 7])
    found = fitted(parts)
    values = 3 * np.random.default_rng(1).normal(size=(60, 4))
    for g in range(3):
        log_density = multivariate_normal.logpdf(values, found.means[g], covariance(found, g))
        surprise = found.surprise(values, np.full(60, g))
        assert surprise + log_density == pytest.approx(np.full(60, -2 * np.log(2 * np.pi)))


def test_the_formula_of_the_docstring() -> None:
    parts = parts_of([300, 80, 7])
    found = fitted(parts)
    everything = np.concatenate(parts)
    means = [
        (len(p) * p.mean(axis=0) + MEAN_ROWS * everything.mean(axis=0)) / (len(p) + MEAN_ROWS)
        for p in parts
    ]
    residuals = [p - m for p, m in zip(parts, means, strict=True)]
    pooled, _ = ledoit_wolf(np.concatenate(residuals), assume_centered=True)
    for g, own in enumerate(residuals):
        n = len(own)
        expected = (own.T @ own + KAPPA * pooled) / (n + KAPPA) + RIDGE * np.eye(4)
        assert found.means[g] == pytest.approx(means[g])
        assert covariance(found, g) == pytest.approx(expected)
        assert found.log_det[g] == pytest.approx(np.linalg.slogdet(expected)[1] / 2)


@pytest.mark.parametrize(("rows", "dimensions"), [(3, 5), (20, 30), (200, 8), (5000, 3), (2, 4)])
def test_the_pooled_shrinkage_is_that_of_ledoit_and_wolf(rows: int, dimensions: int) -> None:
    rng = np.random.default_rng(rows)
    residuals = rng.normal(size=(rows, dimensions)) @ rng.normal(size=(dimensions, dimensions))
    share = ledoit_wolf_shrinkage(residuals, assume_centered=True)
    moments = residuals.T @ residuals / rows
    sphere = np.trace(moments) / dimensions * np.eye(dimensions)
    expected = (1 - share) * moments + share * sphere
    assert _shrunk_covariance(residuals) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_residuals_that_are_a_sphere_or_nothing_stay_so() -> None:
    assert _shrunk_covariance(np.eye(3)) == pytest.approx(np.eye(3) / 3)
    assert _shrunk_covariance(np.zeros((5, 3))) == pytest.approx(np.zeros((3, 3)))


def test_with_many_rows_a_group_has_its_own_shape() -> None:
    rng = np.random.default_rng(2)
    shapes = [np.diag([1.0, 9.0]), np.array([[4.0, 1.5], [1.5, 1.0]])]
    parts = [rng.multivariate_normal([5, -5], shape, size=50_000) for shape in shapes]
    found = fitted(parts)
    for g, shape in enumerate(shapes):
        assert covariance(found, g) == pytest.approx(shape + RIDGE * np.eye(2), abs=0.15)
        assert found.means[g] == pytest.approx([5, -5], abs=0.06)


def test_with_few_rows_a_group_has_the_common_shape() -> None:
    """Two rows of a group between 5,000 of another: nearly the other's covariance, not rank one."""
    rng = np.random.default_rng(3)
    shape = np.array([[4.0, 1.5], [1.5, 1.0]])
    large, small = rng.multivariate_normal([0, 0], shape, size=5000), np.array([[1, 1], [1.1, 1]])
    found = fitted([large, small])
    assert covariance(found, 1) == pytest.approx(shape + RIDGE * np.eye(2), abs=0.35)
    assert found.means[1] == pytest.approx([1.05 * 2 / 7, 2 / 7], abs=0.05)


def test_one_row_a_group_is_enough() -> None:
    parts = [np.array([[1.0, 2.0, 3.0]]), np.array([[3.0, 2.0, 1.0]])]
    found = fitted(parts)
    surprise = found.surprise(np.concatenate(parts), np.array([0, 1]))
    assert np.isfinite(surprise).all()
    assert (found.surprise(np.full((2, 3), 1e6), np.array([0, 1])) > surprise).all()


def test_a_single_row_and_columns_that_never_vary_are_enough() -> None:
    for parts in ([np.ones((1, 3))], [np.ones((40, 3)), np.ones((2, 3))]):
        found = fitted(parts)
        assert covariance(found, 0) == pytest.approx(RIDGE * np.eye(3))
        assert found.surprise(np.ones((1, 3)), np.array([0]))[0] == found.log_det[0]


def test_each_row_is_judged_by_its_own_group() -> None:
    parts = parts_of([300, 80, 7])
    found = fitted(parts)
    rng = np.random.default_rng(4)
    values, group = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)
    together = found.surprise(values, group)
    for row in range(90):
        alone = found.surprise(values[row : row + 1], group[row : row + 1])
        assert alone[0] == pytest.approx(together[row], rel=1e-12)
    assert found.surprise(values[:0], group[:0]).shape == (0,)


def test_surprise_grows_without_end_away_from_the_mean() -> None:
    found = fitted(parts_of([300, 80]))
    ray = np.random.default_rng(5).normal(size=4)
    values = found.means[0] + np.array([0, 1, 10, 100, 1e6])[:, None] * ray
    surprise = found.surprise(values, np.zeros(5, dtype=np.int64))
    assert surprise[0] == found.log_det[0]
    assert (np.diff(surprise) > 0).all()
