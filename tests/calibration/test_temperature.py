"""Temperature: known optima, laws of scale, and logits nobody would wish for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from calibration.errors import CalibrationError
from calibration.metrics import nll
from calibration.temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature, softmax

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def sample(rows: int = 4000, classes: int = 5, seed: int = 0) -> tuple[Floats, Ints]:
    """Logits that are calibrated as they stand: labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(rows, classes))
    gumbel = rng.gumbel(size=logits.shape)
    return logits, (logits + gumbel).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 2000.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, labels = sample(rows=20_000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_two_classes_with_one_gap_have_a_closed_form() -> None:
    """sigmoid(gap / T) = share of right rows."""
    logits = np.tile([3.0, 0.0], (100, 1))
    labels = np.repeat([0, 1], [80, 20])
    assert fit_temperature(logits, labels) == pytest.approx(3 / np.log(80 / 20), rel=1e-8)


def test_it_is_the_minimum_of_nll() -> None:
    logits, labels = sample(500)
    logits = logits * 4
    found = minimize_scalar(lambda t: nll(softmax(logits, np.exp(t)), labels), bounds=(-3, 5))
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(found.x), rel=1e-4)


class Logits(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted scikit-learn classifier whose features are its decision function."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.classes_ = np.arange(classes)

    def fit(self, rows: Floats, labels: Ints) -> Logits:
        return self

    def predict(self, rows: Floats) -> Ints:
        return np.array(rows.argmax(axis=1))

    def decision_function(self, rows: Floats) -> Floats:
        return rows


def test_it_agrees_with_scikit_learn() -> None:
    logits, labels = sample(2000)
    logits = logits * 3
    other = CalibratedClassifierCV(FrozenEstimator(Logits(5)), method="temperature")
    other.fit(logits, labels)
    ours = softmax(logits, fit_temperature(logits, labels))
    assert np.allclose(ours, other.predict_proba(logits), atol=1e-3)


@pytest.mark.parametrize("factor", [1e-2, 7.0, 5e3])
def test_scaled_logits_scale_the_temperature(factor: float) -> None:
    logits, labels = sample(1000)
    expected = factor * fit_temperature(logits, labels)
    assert fit_temperature(factor * logits, labels) == pytest.approx(expected, rel=1e-6)


def test_a_common_offset_of_thousands_of_nats_changes_nothing() -> None:
    logits, labels = sample(1000)
    offset = np.random.default_rng(1).uniform(-1e5, 1e5, size=(1000, 1))
    expected = fit_temperature(logits, labels)
    assert fit_temperature(logits + offset, labels) == pytest.approx(expected, rel=1e-6)
    assert np.allclose(softmax(logits + offset, 1.7), softmax(logits, 1.7), atol=1e-9)


def test_errors_of_thousands_of_nats_have_a_finite_temperature() -> None:
    logits, labels = sample(300)
    temperature = fit_temperature(logits * 1e4, labels)
    assert MIN_TEMPERATURE < temperature < MAX_TEMPERATURE
    assert np.isfinite(nll(softmax(logits * 1e4, temperature), labels))


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e4])
def test_separated_classes_are_as_sure_as_n_rows_can_show(scale: float) -> None:
    """Every row right: NLL has no minimum; the mean posterior becomes (n + 1) / (n + 2)."""
    logits, _ = sample(98)
    labels = logits.argmax(axis=1)
    temperature = fit_temperature(logits * scale, labels)
    assert MIN_TEMPERATURE < temperature < MAX_TEMPERATURE
    sure = softmax(logits * scale, temperature)[np.arange(98), labels]
    assert sure.mean() == pytest.approx(99 / 100, abs=1e-6)


def test_worse_than_chance_ends_at_the_upper_bound() -> None:
    assert fit_temperature([[0.0, 1.0], [0.0, 2.0]], [0, 0]) == MAX_TEMPERATURE


def test_equal_logits_end_at_the_lower_bound_and_give_a_uniform_posterior() -> None:
    temperature = fit_temperature(np.zeros((50, 3)), np.zeros(50))
    assert temperature == MIN_TEMPERATURE
    assert np.allclose(softmax(np.zeros((1, 3)), temperature), 1 / 3)


def test_a_single_class_needs_no_temperature() -> None:
    assert fit_temperature(np.full((10, 1), 5e3), np.zeros(10)) == 1
    assert softmax(np.full((2, 1), 5e3), 1.0).tolist() == [[1], [1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_without_meaning_is_uniform_and_leaves_the_others_alone(bad: float) -> None:
    logits = np.array([[bad, 0.0, 1.0], [3.0, 2.0, 1.0]])
    posterior = softmax(logits, 2.0)
    assert posterior[0] == pytest.approx(np.full(3, 1 / 3))
    assert posterior[1].tolist() == softmax(logits[1:], 2.0)[0].tolist()


def test_the_largest_gaps_floats_can_hold_are_no_accident() -> None:
    assert softmax([[1e308, -1e308]], 1e-3).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("logits", "labels", "text"),
    [
        (np.zeros((0, 3)), np.zeros(0), r"found logits \(0, 3\) and labels \(0,\)"),
        (np.zeros((2, 3)), np.zeros(3), r"found logits \(2, 3\) and labels \(3,\)"),
        (np.full((2, 3), np.nan), np.zeros(2), "logits that are not finite"),
    ],
)
def test_unusable_rows_are_named(logits: Floats, labels: Floats, text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        fit_temperature(logits, labels)
