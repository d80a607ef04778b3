"""Decisions: what they mean, and that nothing breaks them; what they promise: test_promises."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.calibration import Calibration, CalibrationError
from calibration.conformal import pac_rank
from calibration.errors import UnsupportedAlphaError
from calibration.modes import LABEL_SHIFT_SAFE, MARGINAL, MODES, PREDICTED_CLASS
from calibration.prediction_sets import LAC, prediction_sets
from calibration.table import score_table
from calibration.temperature import softmax
from calibration.typicality import p_train, p_typicality
from tests.calibration.exchangeable import NAMES, N, Scores, at, calibrate, draw, own_rows
from tests.calibration.tables import BOUND


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(np.random.default_rng(0))


@pytest.fixture(scope="module", params=MODES)
def any_mode(request: pytest.FixtureRequest) -> Calibration:
    return calibrate(np.random.default_rng(0), 1500, mode=request.param)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return draw(np.random.default_rng(1), 2000)


def test_every_field_is_what_it_says(calibration: Calibration, scores: Scores) -> None:
    logits, log_prob, _ = scores
    found, reference = calibration.decide(*scores), calibration.reference
    posterior = softmax(logits, calibration.posterior.temperature)
    sets = prediction_sets(posterior, calibration.posterior.q_hat, LAC)
    assert np.array_equal(found.posterior, posterior)
    assert np.array_equal(found.class_index, logits.argmax(axis=1))
    assert np.array_equal(found.prediction_set, sets)
    assert np.array_equal(found.p_typicality, p_typicality(reference.held_out, log_prob))
    assert np.array_equal(found.p_train, p_train(reference.train, log_prob))
    assert np.array_equal(found.rejected, found.p_value <= found.threshold)
    ambiguous = found.prediction_set.sum(axis=1) > 1
    assert np.array_equal(found.abstained, ambiguous & ~found.rejected)
    assert found.abstained.any()
    assert set(found.alpha) == {0.05}
    assert set(found.threshold) == {calibration.threshold()}
    assert set(found.reference_size) == {N}
    assert np.array_equal(found.score, calibration.scores(*scores))


def test_p_is_the_one_sided_rank_of_the_score(calibration: Calibration, scores: Scores) -> None:
    found, known = calibration.decide(*scores), calibration.scores(*own_rows(calibration))
    at_least = (known >= found.score[:, None]).sum(axis=1)
    assert np.array_equal(found.p_value, (1 + at_least) / (N + 1))


def test_rejected_and_sizes_follow_the_mode(any_mode: Calibration, scores: Scores) -> None:
    found = any_mode.decide(*scores)
    sizes, mode = any_mode.ranking.sizes, any_mode.mode
    assert np.array_equal(found.rejected, found.p_value <= found.threshold)
    assert 0 < found.rejected.sum() < 400
    assert found.threshold.min() == any_mode.threshold()
    if mode == MARGINAL:
        assert set(found.reference_size) == {1500}
    elif mode == PREDICTED_CLASS:
        assert np.array_equal(found.reference_size, sizes[scores[0].argmax(axis=1)])
        bounds = [pac_rank(n, 0.05, 0.05) / (n + 1) for n in sizes.tolist()]
        assert np.array_equal(found.threshold, np.array(bounds)[scores[0].argmax(axis=1)])
    else:
        assert mode == LABEL_SHIFT_SAFE
        assert set(found.reference_size) <= set(sizes.tolist())
        assert set(found.threshold) == {any_mode.threshold()}


def test_strangers_of_either_side_are_rejected(calibration: Calibration) -> None:
    found = at(calibration, [2000, 0, 4000, -4000, 8000])
    assert found.rejected.tolist() == [False, True, True, True, True]
    assert found.p_value[1:].tolist() == [1 / (N + 1)] * 4
    assert found.p_typicality[1:].tolist() == [2 / (N + 1)] * 4
    assert found.score[0] < found.score[1] < found.score[3]
    assert found.score[0] < found.score[2] < found.score[4]


def test_each_row_may_ask_for_its_own_alpha(any_mode: Calibration, scores: Scores) -> None:
    alphas = np.resize([0.05, 0.02, 0.3], 2000)
    found = any_mode.decide(*scores, alphas)
    assert np.array_equal(found.alpha, alphas)
    for alpha in (0.05, 0.02, 0.3):
        rows, alone = alphas == alpha, any_mode.decide(*scores, alpha)
        assert found.threshold[rows].min() == any_mode.threshold(alpha)
        assert np.array_equal(found.threshold[rows], alone.threshold[rows])
        assert np.array_equal(found.rejected[rows], alone.rejected[rows])


@pytest.mark.parametrize("alpha", [1e-4, 0.0, 1.0, float("nan")])
def test_an_unsupported_alpha_is_refused(calibration: Calibration, alpha: float) -> None:
    with pytest.raises(
        UnsupportedAlphaError, match=r"mode marginal: .* n = 999 .* supported alpha is 0.003$"
    ):
        at(calibration, [2000], alpha=alpha)
    with pytest.raises(UnsupportedAlphaError):
        at(calibration, [2000, 2000], alpha=np.array([0.05, alpha]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_density_that_is_no_number_is_rejected(any_mode: Calibration, bad: float) -> None:
    found = at(any_mode, [bad, 2000])
    assert found.rejected.tolist() == [True, False]
    assert found.p_value[0] == 1 / (found.reference_size[0] + 1)
    assert found.p_typicality[0] == 2 / (any_mode.reference_size + 1)
    assert found.p_train[0] == 0
    assert np.isnan(found.score).tolist() == [True, False]
    assert np.isfinite(found.posterior).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_statistic_that_is_no_number_is_rejected(
    calibration: Calibration, name: str, bad: float
) -> None:
    statistics = {key: np.array([bad if key == name else 40.0, 40.0]) for key in NAMES}
    found = calibration.decide(np.zeros((2, 5)), [2000, 2000], statistics)
    assert found.rejected.tolist() == [True, False]
    assert found.p_value[0] == 1 / (N + 1)
    assert found.unusual[0][0] == (name, 2 / (N + 1))


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
    assert found.p_value[0] == 1 / (N + 1)
    assert found.posterior[0] == pytest.approx(np.full(5, 0.2))
    assert found.class_index.tolist() == [0, 1]
    assert found.prediction_set.any(axis=1).all()


def test_logits_alone_that_are_no_numbers_are_rejected(calibration: Calibration) -> None:
    statistics = {name: np.full(2, 40.0) for name in NAMES}
    logits = np.array([[np.nan] * 5, [0, 9, 0, 0, 0]])
    found = calibration.decide(logits, [2000, 2000], statistics)
    assert found.rejected.tolist() == [True, False]
    assert found.p_value[0] == 1 / (N + 1)


def test_nothing_in_a_verdict_is_nan(any_mode: Calibration) -> None:
    """But for the score itself where there is none."""
    wild = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0])
    statistics = dict.fromkeys(NAMES, wild)
    found = any_mode.decide(np.tile(wild[:, None], (1, 5)), wild, statistics)
    for name, values in vars(found).items():
        if name not in ("unusual", "score"):
            assert not np.isnan(values).any(), name
    assert np.isnan(found.score).tolist() == [True] * 3 + [False] * 3
    assert found.rejected.all()
    assert {p for row in found.unusual for _, p in row} == {2 / 1501}


def test_rows_do_not_know_their_batch(any_mode: Calibration, scores: Scores) -> None:
    logits, log_prob, statistics = scores
    batch = any_mode.decide(*scores)
    for row in range(50):
        one = slice(row, row + 1)
        named = {name: values[one] for name, values in statistics.items()}
        alone = any_mode.decide(logits[one], log_prob[one], named)
        for name, values in vars(alone).items():
            assert np.array_equal(values[0], vars(batch)[name][row]) or name == "unusual"
        assert alone.unusual[0] == batch.unusual[row]


def test_no_rows_are_a_batch_too(any_mode: Calibration) -> None:
    found = at(any_mode, [])
    assert found.posterior.shape == found.prediction_set.shape == (0, 5)
    assert found.p_value.shape == found.rejected.shape == found.score.shape == (0,)
    assert found.unusual == []


def test_the_most_unusual_statistics_are_named(calibration: Calibration) -> None:
    statistics = {name: np.array([40.0, 40.0]) for name in NAMES}
    statistics["peak"][0], statistics["tail"][0], statistics["margin"][0] = 50.0, -1e6, np.nan
    found = calibration.decide(np.zeros((2, 5)), [2000, 2000], statistics)
    names = [name for name, _ in found.unusual[0]]
    assert names == ["margin", "tail", "peak"]
    assert [p for _, p in found.unusual[0]] == [2 / (N + 1)] * 3
    assert len(found.unusual[1]) == 3
    for name, p in found.unusual[1]:
        reference = calibration.reference.statistics[name]
        assert p == p_typicality(reference, np.array([40.0]))[0]


def test_what_is_named_is_the_most_extreme_with_its_own_p(
    calibration: Calibration, scores: Scores
) -> None:
    """By |normal score|, and p is that of the two-sided test of this statistic alone."""
    _, log_prob, statistics = scores
    rounded = {name: values.round() for name, values in statistics.items()}  # many ties
    named = calibration.combined.names
    found = calibration.decide(scores[0], log_prob, rounded)
    normal = calibration.combined({**rounded, "log_prob": log_prob}, scores[0].argmax(axis=1))[-1]
    extreme = {name: np.abs(normal[:, i]) for i, name in enumerate(named) if name in NAMES}
    p = {
        name: p_typicality(calibration.reference.statistics[name], values)
        for name, values in rounded.items()
    }
    for row, own in enumerate(found.unusual):
        assert [value for _, value in own] == [p[name][row] for name, _ in own]
        largest = sorted((extreme[name][row] for name in NAMES), reverse=True)[:3]
        assert [extreme[name][row] for name, _ in own] == largest


def test_without_statistics_none_is_unusual() -> None:
    rng = np.random.default_rng(6)
    table = score_table(
        ids=[str(row) for row in range(200)],
        labels=[0] * 200,
        splits=["fit", "cal"] * 100,
        logits=np.zeros((200, 1)),
        log_prob=rng.normal(size=200),
        statistics={},
    )
    found = Calibration.fit(table, bound=BOUND).decide(np.zeros((3, 1)), [0, 9, -9], {})
    assert found.unusual == [[], [], []]
    assert np.isnan(found.p_train).all()
    assert found.posterior.tolist() == [[1], [1], [1]]
    assert found.rejected.tolist() == [False, True, True]


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
    with pytest.raises(CalibrationError, match=r"'peak': \(1,\).*, expected .* each \(N,\)"):
        calibration.decide(np.zeros((2, 5)), np.zeros(2), statistics)
