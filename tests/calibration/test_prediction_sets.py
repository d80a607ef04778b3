"""Prediction sets: closed forms, the promise by simulation, and what tells the methods apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.conformal import beta_binomial_interval
from calibration.errors import CalibrationError
from calibration.prediction_sets import SET_METHODS, prediction_sets, set_quantile

laws = settings(derandomize=True, deadline=None, max_examples=60)
methods = pytest.mark.parametrize("method", SET_METHODS)


def sample(rows: int, hard: float = 0.3, seed: int = 0) -> tuple[FloatArray, IntArray, BoolArray]:
    """Calibrated posteriors of 8 classes, a share of them of hard images; truth, who is hard."""
    rng = np.random.default_rng(seed)
    is_hard = rng.random(rows) < hard
    easy, doubtful = (rng.dirichlet(np.full(8, c), size=rows) for c in (0.02, 0.6))
    posterior = np.where(is_hard[:, None], doubtful, easy)
    truth = (posterior.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(max=7)
    return posterior, truth, is_hard


def test_q_hat_of_known_cases() -> None:
    truth = np.zeros(19, dtype=np.int64)
    sure = np.linspace(0.1, 0.9, 19)
    posterior = np.stack([sure, 1 - sure], axis=1)
    assert set_quantile(posterior, truth, 0.95) == 1 - 0.1  # rank 19 of 19
    assert set_quantile(posterior, truth, 0.5) == 1 - sure[9]  # rank 10
    assert set_quantile(posterior[1:], truth[1:], 0.95) == 1  # rank 19 of 18: every class
    assert prediction_sets(posterior, 1.0).all()
    assert prediction_sets(np.array([[0.9, 0.1]]), 1 - 0.1).all()  # equality is in


def test_adaptive_q_hat_of_known_cases() -> None:
    """Right rows have 0, the others the mass of what they rank behind: here .9, .875, ... .525."""
    wrong = np.linspace(0.525, 0.9, 16)
    first = np.concatenate([np.full(3, 0.4), wrong])
    posterior = np.stack([first, 1 - first], axis=1)
    truth = np.ones(19, dtype=np.int64)
    assert set_quantile(posterior, truth, 0.95, "aps") == wrong[15]  # rank 19 of 19
    assert set_quantile(posterior, truth, 0.5, "aps") == wrong[6]  # rank 10, 3 of them are 0
    assert set_quantile(posterior, truth, 0.15, "aps") == 0  # rank 3
    assert set_quantile(posterior[1:], truth[1:], 0.95, "aps") == 1  # rank 19 of 18


@pytest.mark.parametrize(
    ("q_hat", "members"), [(0.0, 1), (0.49, 1), (0.5, 2), (0.74, 2), (0.75, 3), (0.875, 4)]
)
def test_an_adaptive_set_is_the_fewest_classes_whose_mass_exceeds_q_hat(
    q_hat: float, members: int
) -> None:
    row = np.array([[0.125, 0.5, 0.125, 0.25]])  # classes of equal posterior go together
    in_turn = [[1], [1, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert np.flatnonzero(prediction_sets(row, q_hat, "aps")[0]).tolist() == in_turn[members - 1]


@methods
def test_q_hat_does_not_round_an_exact_level_up(method: str) -> None:
    """100 * 0.07 is 7.000000000000001 in floats; the rank is 7."""
    wrong = 1 - np.arange(1, 100) / 1000
    posterior = np.stack([wrong, 1 - wrong], axis=1)
    found = set_quantile(posterior, np.ones(99), 0.07, method)
    assert found == pytest.approx(np.sort(wrong)[6])


@methods
@pytest.mark.parametrize("level", [0.8, 0.9, 0.99])
def test_sets_hold_the_true_class_as_often_as_promised(method: str, level: float) -> None:
    """Coverage is beta-binomial too, and of scores without many ties no more than promised."""
    posterior, truth, _ = sample(7000, hard=0.9, seed=3)
    q_hat = set_quantile(posterior[:2000], truth[:2000], level, method)
    sets = prediction_sets(posterior[2000:], q_hat, method)
    hits = int(sets[np.arange(5000), truth[2000:]].sum())
    rank = {0.8: 1601, 0.9: 1801, 0.99: 1981}[level]
    low, high = beta_binomial_interval(5000, rank, 2000, 0.9999)
    assert low <= hits <= high


@methods
def test_the_promise_is_kept_by_few_rows_on_average(method: str) -> None:
    """Over 400 draws: at least the level, and by less than 1 / (n + 1) more."""
    hits = []
    for seed in range(400):
        posterior, truth, _ = sample(80, seed=seed)
        q_hat = set_quantile(posterior[:30], truth[:30], 0.9, method)
        sets = prediction_sets(posterior[30:], q_hat, method)
        hits.append(sets[np.arange(50), truth[30:]].mean())
    error = np.std(hits) / 20
    assert 0.9 - 3 * error <= np.mean(hits) <= 0.9 + 1 / 31 + 3 * error


def test_adaptive_sets_hold_hard_images_more_evenly() -> None:
    """At 90%, 1 image in 10 hard: of the hard ones less than half have their truth in a LAC set."""
    posterior, truth, is_hard = sample(20_000, hard=0.1)
    held = {}
    for method in SET_METHODS:
        q_hat = set_quantile(posterior[:4000], truth[:4000], 0.9, method)
        sets = prediction_sets(posterior[4000:], q_hat, method)
        held[method] = sets[np.arange(16_000), truth[4000:]]
    hard = is_hard[4000:]
    assert held["lac"][hard].mean() < 0.5
    assert held["aps"][hard].mean() > held["lac"][hard].mean() + 0.1
    assert held["aps"][~hard].mean() < held["lac"][~hard].mean()
    assert held["aps"].mean() == pytest.approx(held["lac"].mean(), abs=0.02)


def test_a_sure_classifier_does_not_get_every_class() -> None:
    """With its own mass counted in, q_hat would be 1 here, and so would be all of a set."""
    posterior, truth, _ = sample(8000, hard=0.1)
    q_hat = set_quantile(posterior[:4000], truth[:4000], 0.9, "aps")
    assert q_hat < 0.6
    assert prediction_sets(posterior[4000:], q_hat, "aps").sum(axis=1).mean() < 1.2


@methods
@laws
@given(classes=st.integers(1, 6), rows=st.integers(0, 20), q_hat=st.floats(0, 1))
def test_no_set_is_empty_and_q_hat_only_adds(
    method: str, classes: int, rows: int, q_hat: float
) -> None:
    posterior = np.random.default_rng(rows).dirichlet(np.ones(classes), size=rows)
    sets = prediction_sets(posterior, q_hat, method)
    more = prediction_sets(posterior, (1 + q_hat) / 2, method)
    assert sets.shape == posterior.shape
    assert sets[np.arange(rows), posterior.argmax(axis=1)].all()
    assert (more | ~sets).all()


@methods
@laws
@given(seed=st.integers(0, 1000), q_hat=st.floats(0, 1))
def test_neither_rows_nor_classes_have_an_order(method: str, seed: int, q_hat: float) -> None:
    """With ties, for APS; of top classes that tie LAC always takes the first."""
    rng = np.random.default_rng(seed)
    tied = rng.multinomial(7, np.full(6, 1 / 6), size=8) / 7
    posterior = tied if method == "aps" else rng.dirichlet(np.ones(6), size=8)
    rows, classes = rng.permutation(8), rng.permutation(6)
    moved = prediction_sets(posterior[rows][:, classes], q_hat, method)
    assert (moved == prediction_sets(posterior, q_hat, method)[rows][:, classes]).all()


@pytest.mark.parametrize("classes", [3, 10, 1000])
@methods
def test_no_class_is_lost_to_rounding(method: str, classes: int) -> None:
    """Sums of floats end an ulp beside 1; q_hat = 1 takes in every class all the same."""
    posterior = np.random.default_rng(classes).dirichlet(np.full(classes, 0.3), size=300)
    assert (posterior.cumsum(axis=1) > 1).any()
    posterior[0] = np.eye(classes)[0]
    assert prediction_sets(posterior, 1.0, method).all()
    last = posterior.argmin(axis=1)
    assert set_quantile(posterior, last, 0.999, method) == 1
    assert 0 <= set_quantile(posterior, last, 0.5, method) <= 1


@methods
def test_one_image_gets_what_it_gets_among_others(method: str) -> None:
    posterior, _, _ = sample(50)
    together = prediction_sets(posterior, 0.7, method)
    alone = [prediction_sets(posterior[[i]], 0.7, method)[0] for i in range(50)]
    assert (together == np.array(alone)).all()


@pytest.mark.parametrize(
    ("labels", "level", "method", "text"),
    [
        ([0, 1], 0.9, "raps", "set method: found 'raps', expected one of lac, aps"),
        ([0, 1], 1.0, "lac", "level: found 1.0, expected a number between 0 and 1"),
        ([0, 1], float("nan"), "aps", "level: found nan"),
        ([0, 2], 0.9, "aps", "found labels from 0 to 2, expected classes from 0 to 1"),
        ([-1, 0], 0.9, "lac", "found labels from -1 to 0"),
        ([0], 0.9, "lac", r"found posteriors \(2, 2\) and labels \(1,\), expected \(n, K\)"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    labels: list[int], level: float, method: str, text: str
) -> None:
    with pytest.raises(CalibrationError, match=text):
        set_quantile(np.array([[0.9, 0.1], [0.2, 0.8]]), labels, level, method)


def test_an_unknown_method_has_no_sets() -> None:
    with pytest.raises(CalibrationError, match="found '', expected one of lac, aps"):
        prediction_sets(np.array([[0.9, 0.1]]), 0.5, "")
