"""The gate's evidence adds up and points at what was made strange; where rejection begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calibration.calibration import Calibration, top_class
from calibration.combined_score import LOG_PROB
from calibration.errors import CalibrationError
from calibration.evidence import evidence
from calibration.modes import MODES, PREDICTED_CLASS
from calibration.score_histogram import BARS, score_histogram
from calibration.views import VIEWS
from tests.calibration.tables import columns_of, fit, only, rows

COUNT = 200


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(rows())


def new(**changes: float) -> tuple[Any, Any, dict[str, Any]]:
    """Rows that the calibration has not seen; ``changes`` are added to their statistics."""
    columns = columns_of(np.random.default_rng(7), COUNT)
    statistics = {name: v + changes.get(name, 0.0) for name, v in columns["statistics"].items()}
    return columns["logits"], columns["log_prob"], statistics


def test_contributions_sum_to_the_surprise_of_the_densities(calibration: Calibration) -> None:
    logits, log_prob, statistics = new()
    combined, predicted = calibration.combined, top_class(logits)
    assert combined.views is not None
    _, values, normal = combined({**statistics, LOG_PROB: log_prob}, predicted)
    group = combined.group_of[predicted]
    parts = combined.parts(values, normal, predicted).sum(axis=2)
    offsets = np.stack([combined.views.joint.log_det, combined.views.within.log_det], axis=1)
    surprise = combined.views.surprise(values, normal, group)
    np.testing.assert_allclose(parts + offsets[group], surprise, rtol=1e-9)
    shares = combined.shares(values, normal, predicted)
    density = shares[:, :2] / shares[:, :2].sum(axis=1, keepdims=True)
    found = evidence(calibration, logits, log_prob, statistics)
    for i, one in enumerate(found):
        total = sum(part.contribution for part in one.statistics)
        assert total == pytest.approx((density[i] * parts[i]).sum(), rel=1e-9)
        assert tuple(one.views) == VIEWS[:3]
        assert sum(one.views.values()) == pytest.approx(1)


def test_what_was_moved_contributes_most(calibration: Calibration) -> None:
    for name in ("log_det", "margin", "input_tv"):
        for one in evidence(calibration, *new(**{name: 50.0})):
            first = one.statistics[0]
            assert first.name == name
            assert first.normal_score > 3
            assert first.p_value == pytest.approx(2 / (calibration.reference_size + 1))


def test_p_values_are_those_of_the_verdict(calibration: Calibration) -> None:
    logits, log_prob, statistics = new()
    decisions = calibration.decide(logits, log_prob, statistics)
    for i, one in enumerate(evidence(calibration, logits, log_prob, statistics)):
        named = {part.name: part for part in one.statistics}
        assert set(named) == {*statistics, LOG_PROB}
        assert named[LOG_PROB].p_value == decisions.p_typicality[i]
        for name, p_value in decisions.unusual[i]:
            assert named[name].p_value == p_value
            assert named[name].value == statistics[name][i]


def test_a_row_that_is_not_finite_has_no_contributions(calibration: Calibration) -> None:
    logits, log_prob, statistics = new()
    statistics["margin"][0] = np.nan
    first, second = evidence(calibration, logits, log_prob, statistics)[:2]
    assert not first.views
    assert first.statistics[0].name == "margin"
    assert np.isnan([part.contribution for part in first.statistics]).all()
    assert np.isfinite([part.contribution for part in second.statistics]).all()


def test_without_fit_rows_the_evidence_is_of_the_density_alone() -> None:
    few = fit(only(rows(), "train", "cal"), posterior_from=fit(rows()))
    for one in evidence(few, *new()):
        assert [part.name for part in one.statistics] == [LOG_PROB]


def test_a_distance_of_log_prob_has_no_views() -> None:
    table = rows()
    some = np.flatnonzero(np.array(table["split"].to_pylist()) == "fit")[:20]
    keep = np.sort(np.concatenate([some, np.flatnonzero(
        np.array(table["split"].to_pylist()) == "cal")]))  # fmt: skip
    few = fit(table.take(keep))
    assert few.combined.views is None
    found = evidence(few, *new(margin=50.0))
    assert not found[0].views
    assert found[0].statistics[0].name == "margin"
    with pytest.raises(CalibrationError, match="it has no views"):
        few.combined.shares(np.zeros((1, 5)), np.zeros((1, 5)), np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize("mode", MODES)
def test_images_beyond_the_place_of_rejection_are_the_rejected_ones(mode: str) -> None:
    calibration = fit(rows(), mode=mode, alpha=0.1)
    for shift in (0.0, 3.0):
        decisions = calibration.decide(*new(log_det=shift))
        assert decisions.rejected.any()
        for i in range(COUNT):
            found = score_histogram(
                calibration.ranking, int(decisions.class_index[i]), float(decisions.threshold[i])
            )
            assert decisions.rejected[i] == (decisions.score[i] > found.rejected_above)


@pytest.mark.parametrize("mode", MODES)
def test_the_histogram_is_of_the_rows_that_an_image_is_ranked_among(mode: str) -> None:
    calibration = fit(rows(), mode=mode, alpha=0.1)
    for k in range(4):
        found = score_histogram(calibration.ranking, k, 0.05)
        sizes = calibration.ranking.sizes
        assert found.counts.sum() == (sizes[k] if mode == PREDICTED_CLASS else sizes.sum())
        assert len(found.counts) == BARS == len(found.edges) - 1
        assert (np.diff(found.edges) > 0).all()
