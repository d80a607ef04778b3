"""What decisions promise, on simulated exchangeable scores: rates, sets and exact thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.calibration import Calibration
from calibration.conformal import attained_rank, beta_binomial_interval, pac_rank
from calibration.modes import LABEL_SHIFT_SAFE, MARGINAL, MODES, PREDICTED_CLASS
from tests.calibration.exchangeable import N, calibrate, draw, own_rows, truth_of


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(np.random.default_rng(0))


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_keeps_its_promise(mode: str) -> None:
    """p <= alpha is beta-binomial in every category; by true class it is so at most."""
    rng, alpha = np.random.default_rng(8), 0.1
    calibration, fresh = calibrate(rng, 1500, mode=mode), draw(rng, 10_000)
    found = calibration.decide(*fresh)
    small = found.p_value <= alpha
    groups = {
        MARGINAL: np.zeros(10_000, dtype=np.int64),
        PREDICTED_CLASS: fresh[0].argmax(axis=1),
        LABEL_SHIFT_SAFE: truth_of(rng, fresh[0]),
    }[mode]
    for group, size in enumerate(calibration.ranking.sizes.tolist()):
        own = groups == group
        rank = attained_rank(size, alpha)
        low, high = beta_binomial_interval(int(own.sum()), rank, size, 0.9999)
        assert small[own].sum() <= high
        assert mode == LABEL_SHIFT_SAFE or low <= small[own].sum()


def test_both_promises_hold(calibration: Calibration) -> None:
    """(a) p <= alpha is beta-binomial; (b) rejected is so too, with the fewer ranks of PAC."""
    fresh = draw(np.random.default_rng(2), 10_000)
    alphas = (0.01, 0.05, 0.1, 0.3)
    level = 1 - 0.001 / (2 * len(alphas))
    for alpha in alphas:
        found = calibration.decide(*fresh, alpha)
        low, high = beta_binomial_interval(10_000, attained_rank(N, alpha), N, level)
        assert low <= (found.p_value <= alpha).sum() <= high
        low, high = beta_binomial_interval(10_000, pac_rank(N, alpha, 0.05), N, level)
        assert low <= found.rejected.sum() <= high


def test_sets_hold_the_truth_as_promised(calibration: Calibration) -> None:
    rng = np.random.default_rng(3)
    logits, log_prob, statistics = draw(rng, 5000)
    truth = truth_of(rng, logits)
    sets = calibration.decide(logits, log_prob, statistics).prediction_set
    low, high = beta_binomial_interval(5000, round((N + 1) * 0.95), N, 0.9999)
    assert low <= sets[np.arange(5000), truth].sum() <= high


def test_at_the_threshold_itself_no_rounding_decides() -> None:
    """The known row of k-th largest score has rank k + 1: rejected iff k + 1 <= l', for every n."""
    rng, met = np.random.default_rng(4), 0
    for n in (100, 299, 999, 1000, 1234):
        calibration = calibrate(rng, n, alpha=0.1)
        found = calibration.decide(*own_rows(calibration))
        ranks = 1 + (found.score >= found.score[:, None]).sum(axis=1)
        limit = pac_rank(n, 0.1, 0.05)
        assert found.p_value.tolist() == (ranks / (n + 1)).tolist()
        assert found.rejected.tolist() == (ranks <= limit).tolist()
        assert found.rejected.tolist() == (found.p_value <= found.threshold).tolist()
        met += calibration.threshold() in found.p_value[found.rejected]
    assert met >= 4
