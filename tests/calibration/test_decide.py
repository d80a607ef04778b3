"""Decisions: what they mean, that they keep their promise, and that nothing breaks them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calibration.calibration import Calibration, CalibrationError
from calibration.conformal import (
    UnsupportedAlphaError,
    attained_rank,
    beta_binomial_interval,
    pac_rank,
)
from calibration.decisions import Decisions
from calibration.prediction_sets import prediction_sets
from calibration.table import score_table
from calibration.temperature import softmax
from calibration.typicality import MIN_RANK, p_train, p_typicality

Floats = npt.NDArray[np.float64]
Scores = tuple[Floats, Floats, dict[str, Floats]]

NAMES = ("log_det", "margin", "energy", "peak", "tail")
N = 999


def draw(rng: np.random.Generator, rows: int) -> Scores:
    """Exchangeable scores of 5 classes; statistics that depend on each other and on log_prob."""
    log_prob = 2000 + 30 * rng.standard_t(4, rows)
    statistics = {name: rng.normal(size=rows) + log_prob / 50 for name in NAMES}
    return 2 * rng.normal(size=(rows, 5)), log_prob, statistics


def calibrate(rng: np.random.Generator, n: int = N, **changes: Any) -> Calibration:
    logits, log_prob, statistics = draw(rng, n + 500)
    table = score_table(
        ids=[str(row) for row in range(n + 500)],
        labels=(logits + rng.gumbel(size=logits.shape)).argmax(axis=1).tolist(),
        splits=["train"] * 200 + ["fit"] * 300 + ["cal"] * n,
        logits=logits,
        log_prob=log_prob,
        statistics=statistics,
    )
    return Calibration.fit(table, weights_sha256="0" * 64, **changes)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(np.random.default_rng(0))


@pytest.fixture(scope="module")
def scores() -> Scores:
    return draw(np.random.default_rng(1), 2000)


def at(calibration: Calibration, log_prob: list[float], **changes: Any) -> Decisions:
    """Decide on these densities, all else unremarkable."""
    rows = len(log_prob)
    statistics = {name: np.full(rows, 40.0) for name in NAMES}
    return calibration.decide(np.zeros((rows, 5)), log_prob, statistics, **changes)


def test_every_field_is_what_it_says(calibration: Calibration, scores: Scores) -> None:
    logits, log_prob, _ = scores
    found, reference = calibration.decide(*scores), calibration.reference
    posterior = softmax(logits, calibration.temperature)
    assert np.array_equal(found.posterior, posterior)
    assert np.array_equal(found.class_index, logits.argmax(axis=1))
    assert np.array_equal(found.prediction_set, prediction_sets(posterior, calibration.q_hat))
    assert np.array_equal(found.p_typicality, p_typicality(reference.held_out, log_prob))
    assert np.array_equal(found.p_value, found.p_typicality)
    assert np.array_equal(found.p_train, p_train(reference.train, log_prob))
    assert np.array_equal(found.rejected, found.p_value <= found.threshold)
    ambiguous = found.prediction_set.sum(axis=1) > 1
    assert np.array_equal(found.abstained, ambiguous & ~found.rejected)
    assert found.abstained.any()
    assert set(found.alpha) == {0.05}
    assert set(found.threshold) == {calibration.threshold()}
    assert np.array_equal(found.score, -np.log(found.p_value))


def test_both_promises_hold(calibration: Calibration) -> None:
    """(a) p <= alpha is beta-binomial; (b) rejected is so too, with the fewer ranks of PAC."""
    fresh = draw(np.random.default_rng(2), 10_000)
    alphas = (0.01, 0.05, 0.1, 0.3)
    level = 1 - 0.001 / (2 * len(alphas))
    for alpha in alphas:
        found = calibration.decide(*fresh, alpha)
        taken = pac_rank(N, alpha, 0.05) // 2 * 2
        low, high = beta_binomial_interval(10_000, attained_rank(N, alpha), N, level)
        assert low <= (found.p_value <= alpha).sum() <= high
        low, high = beta_binomial_interval(10_000, taken, N, level)
        assert low <= found.rejected.sum() <= high


def test_sets_hold_the_truth_as_promised(calibration: Calibration) -> None:
    rng = np.random.default_rng(3)
    logits, log_prob, statistics = draw(rng, 5000)
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    sets = calibration.decide(logits, log_prob, statistics).prediction_set
    low, high = beta_binomial_interval(5000, round((N + 1) * 0.95), N, 0.9999)
    assert low <= sets[np.arange(5000), truth].sum() <= high


def test_strangers_of_either_side_are_rejected(calibration: Calibration) -> None:
    found = at(calibration, [2000, 0, 4000])
    assert found.rejected.tolist() == [False, True, True]
    assert found.p_value[1:].tolist() == [2 / (N + 1)] * 2
    assert found.score[0] < found.score[1]


def test_at_the_threshold_itself_no_rounding_decides() -> None:
    """A score just inside the k-th from an end has rank 2k: rejected iff 2k <= l', for every n."""
    rng = np.random.default_rng(4)
    for n in (100, 299, 999, 1000, 1234):
        calibration = calibrate(rng, n, alpha=0.1)
        known = calibration.reference.held_out
        between = (known[:-1] + known[1:]) / 2  # the k-th of these has k scores below it
        found = at(calibration, between[: n // 2 - 1].tolist())
        ranks = 2 * np.arange(2, n // 2 + 1)
        limit = pac_rank(n, 0.1, 0.05)
        assert found.rejected.tolist() == (ranks <= limit).tolist()
        assert found.rejected.tolist() == (found.p_value <= found.threshold).tolist()
        assert found.p_value.tolist() == (ranks / (n + 1)).tolist()


def test_equality_rejects() -> None:
    """l' is even here, so a p-value can meet the threshold exactly."""
    calibration = calibrate(np.random.default_rng(5), 1010, alpha=0.1)
    limit = pac_rank(1010, 0.1, 0.05)
    assert limit % 2 == 0
    known, k = calibration.reference.held_out, limit // 2
    found = at(calibration, [(known[k - 2] + known[k - 1]) / 2, (known[k - 1] + known[k]) / 2])
    assert found.p_value[0] == found.threshold[0] == calibration.threshold()
    assert found.rejected.tolist() == [True, False]


def test_each_row_may_ask_for_its_own_alpha(calibration: Calibration, scores: Scores) -> None:
    alphas = np.resize([0.05, 0.01, 0.3], 2000)
    found = calibration.decide(*scores, alphas)
    assert np.array_equal(found.alpha, alphas)
    for alpha in (0.05, 0.01, 0.3):
        rows, alone = alphas == alpha, calibration.decide(*scores, alpha)
        assert set(found.threshold[rows]) == {calibration.threshold(alpha)}
        assert np.array_equal(found.rejected[rows], alone.rejected[rows])


@pytest.mark.parametrize("alpha", [1e-4, 0.0, 1.0, float("nan")])
def test_an_unsupported_alpha_is_refused(calibration: Calibration, alpha: float) -> None:
    with pytest.raises(
        UnsupportedAlphaError, match=r"n = 999 .* smallest supported alpha is 0.00474"
    ):
        at(calibration, [2000], alpha=alpha)
    with pytest.raises(UnsupportedAlphaError):
        at(calibration, [2000, 2000], alpha=np.array([0.05, alpha]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_density_that_is_no_number_is_rejected(calibration: Calibration, bad: float) -> None:
    found = at(calibration, [bad, 2000])
    assert found.rejected.tolist() == [True, False]
    assert found.p_value[0] == found.p_typicality[0] == MIN_RANK / (N + 1)
    assert found.p_train[0] == 0
    assert found.score[0] == -np.log(2 / (N + 1))
    assert np.isfinite(found.posterior).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("alpha", [None, 0.005])
def test_logits_that_are_no_numbers_are_rejected(
    calibration: Calibration, bad: float, alpha: float | None
) -> None:
    statistics = {name: np.array([np.nan, 40.0]) for name in NAMES}
    logits = np.array([[0, bad, 0, 0, 0], [0, 9, 0, 0, 0]])
    found = calibration.decide(logits, [2000, 2000], statistics, alpha)
    assert found.rejected.tolist() == [True, False]
    assert found.abstained[0] == np.False_
    assert found.p_value[0] == MIN_RANK / (N + 1)
    assert found.posterior[0] == pytest.approx(np.full(5, 0.2))
    assert found.class_index.tolist() == [0, 1]
    assert found.prediction_set.any(axis=1).all()


def test_nothing_in_a_verdict_is_nan(calibration: Calibration) -> None:
    wild = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0])
    statistics = dict.fromkeys(NAMES, wild)
    found = calibration.decide(np.tile(wild[:, None], (1, 5)), wild, statistics)
    for name, values in vars(found).items():
        if name != "unusual":
            assert not np.isnan(values).any(), name
    assert found.rejected.all()
    assert {p for row in found.unusual for _, p in row} == {MIN_RANK / (N + 1)}


def test_rows_do_not_know_their_batch(calibration: Calibration, scores: Scores) -> None:
    logits, log_prob, statistics = scores
    batch = calibration.decide(
        logits[:50], log_prob[:50], {k: v[:50] for k, v in statistics.items()}
    )
    for row in range(50):
        one = slice(row, row + 1)
        alone = calibration.decide(
            logits[one], log_prob[one], {k: v[one] for k, v in statistics.items()}
        )
        for name, values in vars(alone).items():
            assert np.array_equal(values[0], vars(batch)[name][row]) or name == "unusual"
        assert alone.unusual[0] == batch.unusual[row]


def test_no_rows_are_a_batch_too(calibration: Calibration) -> None:
    found = at(calibration, [])
    assert found.posterior.shape == found.prediction_set.shape == (0, 5)
    assert found.p_value.shape == found.rejected.shape == (0,)
    assert found.unusual == []


def test_the_most_unusual_statistics_are_named(calibration: Calibration) -> None:
    statistics = {name: np.array([40.0, 40.0]) for name in NAMES}
    statistics["peak"][0], statistics["tail"][0], statistics["margin"][0] = 50.0, -1e6, np.nan
    found = calibration.decide(np.zeros((2, 5)), [2000, 2000], statistics)
    names = [name for name, _ in found.unusual[0]]
    assert names == ["margin", "tail", "peak"]
    assert [p for _, p in found.unusual[0]] == [MIN_RANK / (N + 1)] * 3
    for name, p in found.unusual[1]:
        reference = calibration.reference.statistics[NAMES.index(name)]
        assert p == p_typicality(reference, np.array([40.0]))[0]
    assert [p for _, p in found.unusual[1]] == sorted(p for _, p in found.unusual[1])


def test_without_statistics_none_is_unusual() -> None:
    table = score_table(
        ids=[str(row) for row in range(200)],
        labels=[0] * 200,
        splits=["fit"] * 100 + ["cal"] * 100,
        logits=np.zeros((200, 1)),
        log_prob=np.arange(200),
        statistics={},
    )
    found = Calibration.fit(table, weights_sha256="0").decide(np.zeros((2, 1)), [150, 0], {})
    assert found.unusual == [[], []]
    assert np.isnan(found.p_train).all()
    assert found.posterior.tolist() == [[1], [1]]
    assert found.rejected.tolist() == [False, True]


@pytest.mark.parametrize(
    ("logits", "log_prob", "names", "alpha", "text"),
    [
        ((2, 4), 2, NAMES, None, r"logits: found shape \(2, 4\), expected \(N, 5\)"),
        ((5,), 2, NAMES, None, r"logits: found shape \(5,\), expected \(N, 5\)"),
        ((2, 5), 3, NAMES, None, r"log_prob: found shape \(3,\), expected \(2,\)"),
        ((2, 5), 2, NAMES[1:], None, r"statistics: found \['energy', .* those of the reference"),
        ((2, 5), 2, (*NAMES, "new"), None, r"statistics: found .*'new'.* expected those"),
        ((2, 5), 2, NAMES, [0.05] * 3, r"alpha: found shape \(3,\), expected \(\) or \(2,\)"),
    ],
)
def test_scores_of_another_shape_are_refused(
    calibration: Calibration,
    logits: tuple[int, ...],
    log_prob: int,
    names: tuple[str, ...],
    alpha: list[float] | None,
    text: str,
) -> None:
    statistics = {name: np.zeros(2) for name in names}
    with pytest.raises(CalibrationError, match=text):
        calibration.decide(np.zeros(logits), np.zeros(log_prob), statistics, alpha)


def test_a_statistic_of_another_length_is_refused(calibration: Calibration) -> None:
    statistics = {name: np.zeros(2) for name in NAMES} | {"peak": np.zeros(1)}
    with pytest.raises(CalibrationError, match=r"peak: found shape \(1,\), expected \(2,\)"):
        calibration.decide(np.zeros((2, 5)), np.zeros(2), statistics)
