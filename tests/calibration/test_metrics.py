"""Metrics against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from calibration.errors import CalibrationError
from calibration.metrics import (
    CONFIDENT,
    accuracy,
    auroc,
    brier,
    ece,
    is_confident,
    nll,
    overconfidence_error,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

laws = settings(derandomize=True, deadline=None, max_examples=60)
scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)


def sample(rows: int = 900, classes: int = 4, seed: int = 0) -> tuple[Floats, Ints]:
    """Calibrated posteriors: the truth is drawn from them."""
    rng = np.random.default_rng(seed)
    posterior = rng.dirichlet(np.full(classes, 0.5), size=rows)
    drawn = (posterior.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return posterior, drawn.clip(max=classes - 1)


def test_they_agree_with_scikit_learn() -> None:
    posterior, labels = sample()
    assert accuracy(posterior, labels) == accuracy_score(labels, posterior.argmax(axis=1))
    assert nll(posterior, labels) == pytest.approx(log_loss(labels, posterior))
    expected = brier_score_loss(labels, posterior, scale_by_half=False)
    assert brier(posterior, labels) == pytest.approx(expected)


def test_closed_forms() -> None:
    posterior = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert accuracy(posterior, [0, 1, 1]) == pytest.approx(2 / 3)
    assert nll(posterior, [0, 1, 1]) == pytest.approx(np.log(2) / 3)
    assert brier(posterior, [0, 1, 0]) == pytest.approx((0 + 0.5 + 2) / 3)


def test_nll_of_the_impossible_is_large_and_finite() -> None:
    assert nll(np.array([[1.0, 0.0]]), [1]) == pytest.approx(708.4, abs=0.1)


def test_ece_of_one_confidence_is_its_distance_from_accuracy() -> None:
    posterior = np.tile([0.8, 0.2], (100, 1))
    assert ece(posterior, np.repeat([0, 1], [65, 35])) == pytest.approx(0.15)
    assert ece(posterior, np.repeat([0, 1], [80, 20])) == pytest.approx(0, abs=1e-12)


def test_overconfidence_counts_confident_errors_alone() -> None:
    """200 confident rows with 3 errors, 1.5% where 0.3% is allowed; the unsure do not matter."""
    posterior = np.repeat([[0.999, 0.001], [0.9, 0.1]], [200, 300], axis=0)
    labels = np.concatenate([np.repeat([1, 0], [3, 197]), np.ones(300, dtype=np.int64)])
    assert is_confident(posterior).sum() == 200
    assert overconfidence_error(posterior, labels) == pytest.approx(5)
    assert overconfidence_error(posterior[:200], np.zeros(200)) == 0
    assert overconfidence_error(posterior[:200], np.ones(200)) == pytest.approx(1 / 0.003)


def test_overconfidence_starts_at_its_threshold() -> None:
    posterior = np.array([[CONFIDENT, 1 - CONFIDENT], [CONFIDENT - 1e-9, 1 - CONFIDENT + 1e-9]])
    assert is_confident(posterior).tolist() == [True, False]


def test_overconfidence_of_no_confident_prediction_is_not_known() -> None:
    assert overconfidence_error(np.array([[0.5, 0.5], [0.9, 0.1]]), [0, 1]) is None


def test_overconfidence_of_an_honest_99_7_percent_is_one() -> None:
    posterior = np.tile([CONFIDENT, 1 - CONFIDENT], (200_000, 1))
    labels = (np.random.default_rng(0).random(len(posterior)) >= CONFIDENT).astype(np.int64)
    assert overconfidence_error(posterior, labels) == pytest.approx(1, abs=0.15)


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
    sharper = posterior**3 / (posterior**3).sum(axis=1, keepdims=True)
    assert ece(posterior, labels) < 0.02
    assert ece(sharper, labels) > 0.1


@laws
@given(scores, scores)
def test_auroc_agrees_with_scikit_learn_and_pair_counting(
    known: list[float], strange: list[float]
) -> None:
    found = auroc(np.array(known), np.array(strange))
    truth = np.repeat([0, 1], [len(known), len(strange)])
    assert found == pytest.approx(roc_auc_score(truth, known + strange))
    pairs = [(s > k) + (s == k) / 2 for k in known for s in strange]
    assert found == pytest.approx(np.mean(pairs))


@laws
@given(scores, scores)
def test_auroc_of_swapped_sides_is_the_rest(known: list[float], strange: list[float]) -> None:
    there = auroc(np.array(known), np.array(strange))
    assert there + auroc(np.array(strange), np.array(known)) == pytest.approx(1)


def test_auroc_ranks_infinities() -> None:
    assert auroc(np.array([0.0, 1.0]), np.array([np.inf, np.inf])) == 1


@pytest.mark.parametrize(
    ("known", "strange", "text"),
    [([0.0, np.nan], [1.0], "1 of them NaN"), ([], [1.0], "0 known"), ([0.0], [], "0 strange")],
)
def test_auroc_without_an_answer_is_refused(
    known: list[float], strange: list[float], text: str
) -> None:
    with pytest.raises(CalibrationError, match=text):
        auroc(np.array(known), np.array(strange))
