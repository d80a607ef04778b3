"""Vector scaling: known weights and offsets, laws of scale, and logits nobody would wish for."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from calibration.arrays import FloatArray, IntArray
from calibration.errors import CalibrationError
from calibration.metrics import accuracy, nll
from calibration.temperature import fit_temperature, softmax
from calibration.vector_scaling import FLOOR, VectorScaling, fit_vector_scaling

WEIGHTS = np.array([0.6, 1.3, 1.0, 1.5, 0.8])
OFFSETS = np.array([-0.8, 0.1, 1.2, -0.5, 0.0])


def draw(posterior: FloatArray, seed: int = 1) -> IntArray:
    picked = posterior.cumsum(axis=1) < np.random.default_rng(seed).random((len(posterior), 1))
    return np.array(picked.sum(axis=1).clip(max=posterior.shape[1] - 1))


def sample(rows: int = 4000, classes: int = 5, seed: int = 0) -> FloatArray:
    return 2 * np.random.default_rng(seed).normal(size=(rows, classes))


def skewed(rows: int = 4000) -> tuple[FloatArray, IntArray]:
    """Logits whose classes are wrong by a weight and an offset each."""
    logits = sample(rows)
    return logits, draw(VectorScaling(temperature=1.0, weights=WEIGHTS, offsets=OFFSETS)(logits))


def test_known_weights_and_offsets_are_recovered() -> None:
    """Of truths that a temperature of 1 serves best, since it is fitted first."""
    logits, scale = sample(60_000), 1.0
    for _ in range(6):
        truth = VectorScaling(temperature=1.0, weights=scale * WEIGHTS, offsets=OFFSETS)
        labels = draw(truth(logits))
        scale *= fit_temperature(logits, labels)
    found = fit_vector_scaling(logits, labels)
    assert found.temperature == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found.weights, truth.weights, atol=0.05)
    np.testing.assert_allclose(found.offsets, OFFSETS - OFFSETS.mean(), atol=0.05)
    np.testing.assert_allclose(found(logits), truth(logits), atol=0.02)


def test_it_is_never_worse_than_the_temperature_on_its_rows() -> None:
    for rows in (1, 2, 5, 20, 200, 2000):
        logits, labels = skewed(rows)
        tempered = nll(softmax(logits, fit_temperature(logits, labels)), labels)
        assert nll(fit_vector_scaling(logits, labels)(logits), labels) <= tempered + 1e-12


def test_fresh_rows_gain_where_classes_are_skewed() -> None:
    logits, labels = skewed(8000)
    fit, fresh = slice(4000), slice(4000, 8000)
    found = fit_vector_scaling(logits[fit], labels[fit])
    tempered = softmax(logits[fresh], fit_temperature(logits[fit], labels[fit]))
    assert nll(found(logits[fresh]), labels[fresh]) < nll(tempered, labels[fresh]) - 0.05
    assert accuracy(found(logits[fresh]), labels[fresh]) > accuracy(tempered, labels[fresh])


def test_calibrated_logits_are_left_alone() -> None:
    logits = sample(40_000)
    found = fit_vector_scaling(logits, draw(softmax(logits, 1.0)))
    np.testing.assert_allclose(found.weights / found.temperature, 1, atol=0.05)
    np.testing.assert_allclose(found.offsets, 0, atol=0.05)


def test_other_class_frequencies_are_corrected() -> None:
    """By Bayes' rule a posterior moves by log(new / old prior), the same for every row."""
    logits = sample(200_000)
    posterior, prior = softmax(logits, 1.0), np.array([0.4, 0.3, 0.2, 0.08, 0.02])
    labels = draw(posterior)
    kept = np.random.default_rng(2).random(len(labels)) < (prior / prior.max())[labels]
    found = fit_vector_scaling(logits[kept], labels[kept])
    expected = np.log(prior) - np.log(prior).mean()
    np.testing.assert_allclose(found.offsets, expected, atol=0.1)
    shares = found(logits[kept]).mean(axis=0)
    np.testing.assert_allclose(shares, np.bincount(labels[kept]) / kept.sum(), atol=1e-3)


def test_it_agrees_with_scikit_learn_on_two_classes() -> None:
    """Beta calibration: a logistic regression on log p and -log (1 - p), without a ridge."""
    logits = sample(20_000, classes=2)
    truth = VectorScaling(temperature=1.0, weights=WEIGHTS[:2], offsets=OFFSETS[:2])
    labels = draw(truth(logits))
    found = fit_vector_scaling(logits, labels)
    features = np.log(softmax(logits, found.temperature)) * [-1, 1]
    other = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(features, labels)
    np.testing.assert_allclose(found.weights, other.coef_[0], atol=2e-3)
    assert found.offsets[1] - found.offsets[0] == pytest.approx(other.intercept_[0], abs=2e-3)
    np.testing.assert_allclose(found(logits), other.predict_proba(features), atol=1e-3)


def test_no_step_lowers_the_objective() -> None:
    """Total NLL and an eighth of the squared distance from weights 1 and offsets 0."""
    logits, labels = skewed(300)
    found = fit_vector_scaling(logits, labels)

    def objective(weights: FloatArray, offsets: FloatArray) -> float:
        other = VectorScaling(temperature=found.temperature, weights=weights, offsets=offsets)
        away = ((weights - 1) ** 2).sum() + (offsets**2).sum()
        return len(labels) * nll(other(logits), labels) + float(away) / 8

    least, rng = objective(found.weights, found.offsets), np.random.default_rng(3)
    for size in (1e-3, 1e-1):
        for step in size * rng.normal(size=(50, 2, 5)):
            assert objective(found.weights + step[0], found.offsets + step[1]) > least


def test_a_common_offset_of_thousands_of_nats_changes_nothing() -> None:
    logits, labels = skewed(1000)
    found = fit_vector_scaling(logits, labels)
    offset = np.random.default_rng(1).uniform(-1e5, 1e5, size=(1000, 1))
    moved = fit_vector_scaling(logits + offset, labels)
    np.testing.assert_allclose(moved.weights, found.weights, rtol=1e-5)
    np.testing.assert_allclose(moved.offsets, found.offsets, atol=1e-5)
    np.testing.assert_allclose(found(logits + offset), found(logits), atol=1e-9)


@pytest.mark.parametrize("factor", [1e-2, 7.0, 5e3])
def test_scaled_logits_scale_the_temperature_alone(factor: float) -> None:
    logits, labels = skewed(1000)
    found, scaled = fit_vector_scaling(logits, labels), fit_vector_scaling(factor * logits, labels)
    assert scaled.temperature == pytest.approx(factor * found.temperature, rel=1e-6)
    np.testing.assert_allclose(scaled.weights, found.weights, rtol=1e-5)
    np.testing.assert_allclose(scaled.offsets, found.offsets, atol=1e-5)


def test_classes_and_rows_have_no_order() -> None:
    logits, labels = skewed(1000)
    rng = np.random.default_rng(4)
    rows, classes = rng.permutation(1000), rng.permutation(5)
    found = fit_vector_scaling(logits, labels)
    moved = fit_vector_scaling(logits[rows][:, classes], classes.argsort()[labels][rows])
    np.testing.assert_allclose(moved.weights, found.weights[classes], rtol=1e-5)
    np.testing.assert_allclose(moved.offsets, found.offsets[classes], atol=1e-5)


def test_a_class_that_never_occurs_stays_possible() -> None:
    """About one row in so many, as the ridge weighs about as much as one."""
    logits = sample(5000)
    labels = draw(softmax(logits, 1.0))
    kept = labels != 2
    found = fit_vector_scaling(logits[kept], labels[kept])
    expected = found(logits[kept])[:, 2].sum()
    assert 0.2 < expected < 5
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.offsets).all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e4])
def test_separated_classes_keep_finite_numbers(scale: float) -> None:
    logits = scale * sample(98)
    found = fit_vector_scaling(logits, logits.argmax(axis=1))
    assert 0.5 < found.weights.min() < found.weights.max() < 5
    assert np.abs(found.offsets).max() < 2


def test_beyond_the_floor_a_gap_does_not_matter() -> None:
    scaling = VectorScaling(temperature=2.0, weights=WEIGHTS[:2], offsets=OFFSETS[:2])
    far = [scaling([[0.0, -gap]])[0, 1] for gap in (-2 * FLOOR, 1e3, 1e300)]
    expected = np.exp(WEIGHTS[1] * FLOOR + OFFSETS[1] - OFFSETS[0])
    np.testing.assert_allclose(far, expected, rtol=1e-9, atol=0)
    assert scaling([[1e308, -1e308]])[0].tolist() == [1, far[0]]


@pytest.mark.parametrize("gap", [1e2, 1e3, 1e6, 1e300])
def test_one_row_of_an_excluded_class_leaves_finite_numbers(gap: float) -> None:
    logits, labels = skewed(1000)
    logits[0], labels[0] = [0.0, -gap, 0.0, 0.0, 0.0], 1
    found = fit_vector_scaling(logits, labels)
    assert nll(found(logits), labels) <= nll(softmax(logits, found.temperature), labels)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.offsets).all()


def test_worse_than_chance_and_equal_logits_give_class_frequencies() -> None:
    labels = np.repeat([0, 1, 2], [100, 200, 300])
    equal = fit_vector_scaling(np.zeros((600, 3)), labels)
    np.testing.assert_allclose(equal(np.zeros((1, 3)))[0], [1 / 6, 1 / 3, 1 / 2], atol=5e-3)
    wrong = -np.eye(3)[labels]
    found = fit_vector_scaling(wrong, labels)(wrong)
    np.testing.assert_allclose(found.mean(axis=0), [1 / 6, 1 / 3, 1 / 2], atol=5e-3)


def test_a_single_class_is_certain() -> None:
    found = fit_vector_scaling(np.full((10, 1), 5e3), np.zeros(10))
    assert (found.temperature, found.weights.tolist(), found.offsets.tolist()) == (1, [1], [0])
    assert found(np.full((2, 1), -5e3)).tolist() == [[1], [1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_without_meaning_is_uniform_and_leaves_the_others_alone(bad: float) -> None:
    found = VectorScaling(temperature=2.0, weights=WEIGHTS[:3], offsets=OFFSETS[:3])
    logits = np.array([[bad, 0.0, 1.0], [3.0, 2.0, 1.0]])
    assert found(logits)[0].tolist() == [1 / 3] * 3
    assert found(logits)[1].tolist() == found(logits[1:])[0].tolist()
    assert found(np.zeros((0, 3))).shape == (0, 3)


def test_one_image_gets_what_it_gets_among_others() -> None:
    logits, labels = skewed(200)
    found = fit_vector_scaling(logits, labels)
    alone = np.concatenate([found(logits[[i]]) for i in range(200)])
    assert (found(logits) == alone).all()


@pytest.mark.parametrize(
    ("logits", "labels", "text"),
    [
        (np.zeros((2, 3)), [0], r"found logits \(2, 3\) and labels \(1,\)"),
        (np.zeros(3), [0, 1, 2], r"found logits \(3,\)"),
        (np.zeros((0, 3)), [], r"found logits \(0, 3\)"),
        (np.array([[0.0, np.nan]]), [0], "not finite"),
        (np.zeros((2, 3)), [0, 3], "labels from 0 to 3, expected classes from 0 to 2"),
        (np.zeros((2, 3)), [-1, 0], "labels from -1 to 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits: FloatArray, labels: list[int], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        fit_vector_scaling(logits, labels)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (1, 3, 1)])
def test_logits_of_another_model_are_refused(shape: tuple[int, ...]) -> None:
    found = VectorScaling(temperature=1.0, weights=np.ones(3), offsets=np.zeros(3))
    with pytest.raises(CalibrationError, match=r"expected \(N, 3\)"):
        found(np.zeros(shape))
