"""Metrics against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from calibration.errors import CalibrationError
from calibration.metrics import (
    CONFIDENT,
    accuracy,
    aurc,
    auroc,
    brier,
    is_confident,
    nll,
    overconfidence_error,
)
from tests.calibration.posteriors import sample, sharpened

laws = settings(derandomize=True, deadline=None, max_examples=60)
scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)


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


def test_aurc_by_hand() -> None:
    """Errors in the order of confidence: none, one, none: (0 + 1/2 + 1/3) / 3."""
    posterior = np.array([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
    assert aurc(posterior, [0, 0, 0]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert aurc(posterior, [1, 1, 0]) == 1.0
    assert aurc(posterior, [0, 0, 1]) == 0.0


@pytest.mark.parametrize("rows", [1, 7, 900])
def test_aurc_is_the_mean_over_every_order_of_ties(rows: int) -> None:
    posterior, labels = sample(rows)
    posterior = np.round(posterior, 1)  # many ties
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        order = rng.permutation(rows)
        order = order[np.argsort(-posterior[order].max(axis=1), kind="stable")]
        wrong = posterior[order].argmax(axis=1) != labels[order]
        found.append((wrong.cumsum() / np.arange(1, rows + 1)).mean())
    error = np.std(found) / 20
    assert aurc(posterior, labels) == pytest.approx(np.mean(found), abs=5 * error + 1e-12)
    order = rng.permutation(rows)
    assert aurc(posterior[order], labels[order]) == pytest.approx(aurc(posterior, labels))


def test_aurc_falls_where_confidence_knows_errors() -> None:
    posterior, labels = sample(20_000)
    blurred = np.eye(4)[posterior.argmax(axis=1)]  # equally sure of all
    assert aurc(posterior, labels) < 0.7 * aurc(blurred, labels)
    assert aurc(blurred, labels) == pytest.approx(1 - accuracy(posterior, labels))
    assert aurc(sharpened(posterior), labels) == pytest.approx(aurc(posterior, labels), rel=0.05)


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
