"""The detectors of a report: what each is made of, from which rows, and which way it points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from calibration.arrays import BoolArray, FloatArray
from calibration.calibration import Calibration
from calibration.combined_score import LOG_PROB
from calibration.detectors import Detector, fit_detectors
from calibration.errors import CalibrationError
from calibration.fit_rows import values_of
from calibration.table import STATISTIC_PREFIX, floats_of, logits_of, score_table, statistics_of
from calibration.temperature import softmax
from tests.calibration.tables import columns_of, entropy, fit, only, rows, some

NAMES = [
    "log_prob",
    "typicality",
    "entropy",
    "max_probability",
    "dose",
    "input_statistics",
    "flow_statistics",
    "gate",
]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(rows())


@pytest.fixture(scope="module")
def detectors(calibration: Calibration) -> dict[str, Detector]:
    return {found.name: found for found in fit_detectors(calibration)}


@pytest.fixture(scope="module")
def fresh() -> pa.Table:
    return score_table(**columns_of(np.random.default_rng(5), 300))


def changed(table: pa.Table, column: str, values: FloatArray) -> pa.Table:
    index = table.column_names.index(column)
    return table.set_column(index, column, pa.array(values, pa.float64()))


def with_density(log_prob: FloatArray) -> pa.Table:
    """A row for each log p(x), all else the same."""
    columns = columns_of(np.random.default_rng(6), 1)
    count = len(log_prob)
    return score_table(
        ids=["x"] * count,
        labels=None,
        splits=None,
        logits=np.repeat(columns["logits"], count, axis=0),
        log_prob=log_prob,
        statistics={name: value.repeat(count) for name, value in columns["statistics"].items()},
    )


def test_they_come_in_the_order_of_a_report(calibration: Calibration, fresh: pa.Table) -> None:
    found = fit_detectors(calibration)
    assert [detector.name for detector in found] == NAMES
    assert len({detector.title for detector in found}) == len(NAMES)
    for detector in found:
        scores = detector.score(fresh)
        assert scores.shape == (300,)
        assert np.isfinite(scores).all()
        assert len(set(scores.tolist())) > 100


def test_the_gate_is_the_calibrations_own_score(
    calibration: Calibration, detectors: dict[str, Detector], fresh: pa.Table
) -> None:
    values = logits_of(fresh), floats_of(fresh, "log_prob"), statistics_of(fresh)
    expected = calibration.scores(*values)
    assert np.array_equal(detectors["gate"].score(fresh), expected)
    assert np.array_equal(calibration.decide(*values).score, expected)


def test_simple_ones_are_what_they_say(
    calibration: Calibration, detectors: dict[str, Detector], fresh: pa.Table
) -> None:
    posterior = softmax(logits_of(fresh), calibration.posterior.temperature)
    assert np.array_equal(detectors["log_prob"].score(fresh), -floats_of(fresh, "log_prob"))
    assert np.array_equal(detectors["max_probability"].score(fresh), -posterior.max(axis=1))
    own = entropy(logits_of(fresh) / calibration.posterior.temperature)
    assert detectors["entropy"].score(fresh) == pytest.approx(own)


USED: dict[str, Callable[[str], bool]] = {
    "log_prob": lambda name: name == "log_prob",
    "typicality": lambda name: name == "log_prob",
    "entropy": lambda name: False,
    "max_probability": lambda name: False,
    "dose": lambda name: name == "log_prob",
    "input_statistics": lambda name: name == "stat_input_tv",
    "flow_statistics": lambda name: name != "stat_input_tv",
    "gate": lambda name: True,
}


@pytest.mark.parametrize("name", NAMES)
def test_each_reads_its_own_statistics_and_no_other(
    name: str, detectors: dict[str, Detector], fresh: pa.Table
) -> None:
    """Those of the input alone, those of the flow alone: whatever the others are."""
    before = detectors[name].score(fresh)
    columns = [LOG_PROB, *(c for c in fresh.column_names if c.startswith(STATISTIC_PREFIX))]
    for column in columns:
        other = changed(fresh, column, floats_of(fresh, column)[::-1] * 3 - 1)
        assert np.array_equal(detectors[name].score(other), before) != USED[name](column)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_know_their_batch(
    name: str, detectors: dict[str, Detector], fresh: pa.Table
) -> None:
    batch = detectors[name].score(fresh)
    for row in range(0, 300, 29):
        assert detectors[name].score(fresh.slice(row, 1))[0] == pytest.approx(batch[row], rel=1e-9)


@pytest.mark.parametrize("side", [-1, 1])
def test_typicality_grows_to_either_side_without_end(
    side: int, calibration: Calibration, detectors: dict[str, Detector]
) -> None:
    known = np.sort(floats_of(only(calibration.table, "fit"), "log_prob"))
    middle, end = np.median(known), known[-1] if side > 0 else known[0]
    line = np.concatenate([np.linspace(middle, end, 40), end + side * np.logspace(-3, 6, 30)])
    found = detectors["typicality"].score(with_density(line))
    assert (np.diff(found[40:]) > 0).all()
    assert (np.diff(found) > -1e-12).all()
    assert found[40:].min() > detectors["typicality"].score(with_density(known)).max()


def test_typicality_ranks_as_the_two_sided_test_does(
    calibration: Calibration, detectors: dict[str, Detector]
) -> None:
    """Where a value lies between known ones: the fraction of them that is further out."""
    known = np.sort(floats_of(only(calibration.table, "fit"), "log_prob"))
    between = (known[:-1] + known[1:]) / 2
    found = detectors["typicality"].score(with_density(between))
    below = np.arange(1, len(known))
    tail = np.minimum(below, len(known) - below)
    assert found == pytest.approx(0.5 - tail / len(known), abs=1e-6)


def test_dose_is_higher_of_outliers_on_either_side(detectors: dict[str, Detector]) -> None:
    found = detectors["dose"].score(with_density(2000 + np.array([0, 3, -3, 8, -8, 1e6])))
    assert found[0] < found[1:3].min()
    assert found[1:3].max() < found[3:].min()
    assert np.isfinite(found).all()


def test_dose_is_a_sum_of_log_densities() -> None:
    """Of normal statistics and many rows nearly the known one, a kernel wider."""
    rng = np.random.default_rng(7)
    log_prob, ladj = rng.normal(0, 5, 1300), rng.normal(0, 2, 1300)
    table = rows(log_prob=log_prob, statistics={"ladj": ladj})
    score = {found.name: found.score for found in fit_detectors(fit(table))}["dose"]
    new = {"log_prob": rng.normal(0, 5, 100), "ladj": rng.normal(0, 2, 100)}
    columns = columns_of(rng, 100) | {"statistics": {"ladj": new["ladj"]}}
    found = score(score_table(**(columns | {"log_prob": new["log_prob"]})))
    latent = new["log_prob"] - new["ladj"]
    expected = -(
        norm(0, 5).logpdf(new["log_prob"])
        + norm(0, 2).logpdf(new["ladj"])
        + norm(0, np.hypot(5, 2)).logpdf(latent)
    )
    assert np.corrcoef(found, expected)[0, 1] > 0.97
    assert np.median(found - expected) == pytest.approx(0, abs=0.3)


def test_strangers_get_higher_scores_from_whoever_can_see_them(
    detectors: dict[str, Detector], fresh: pa.Table
) -> None:
    by_input = changed(fresh, "stat_input_tv", np.full(300, 40.0))
    by_flow = changed(fresh, "stat_margin", np.full(300, 40.0))

    def lift(name: str, stranger: pa.Table) -> float:
        return float(np.median(detectors[name].score(stranger) - detectors[name].score(fresh)))

    for name in ("gate", "input_statistics"):
        assert lift(name, by_input) > 3
    for name in ("gate", "flow_statistics"):
        assert lift(name, by_flow) > 3
    assert lift("flow_statistics", by_input) == lift("input_statistics", by_flow) == 0


@pytest.mark.parametrize("split", ["cal", "train"])
def test_they_are_fitted_on_the_fit_rows_alone(split: str, fresh: pa.Table) -> None:
    """Other values in other rows, the fit rows the same: the same scores of fresh rows."""
    table = rows()
    for column in ("log_prob", "stat_margin", "stat_input_tv", "stat_log_det", "stat_entropy"):
        values = floats_of(table, column)
        table = changed(table, column, np.where(some(split), values[::-1] * 2 + 1, values))
    pairs = zip(fit_detectors(fit(rows())), fit_detectors(fit(table)), strict=True)
    for before, after in pairs:
        assert np.array_equal(before.score(fresh), after.score(fresh)), before.name


def test_without_fit_rows_there_are_none() -> None:
    """The gate then is of train rows, and what it is held against must not be."""
    calibration = fit(only(rows(), "train", "cal"), posterior_from=fit(rows(seed=9)))
    with pytest.raises(CalibrationError, match=r"the calibration has no fit rows, .* calibrate on"):
        fit_detectors(calibration)


def few(count: int) -> BoolArray:
    return np.asarray(~some("fit") | (np.cumsum(some("fit")) <= count))


@pytest.mark.parametrize("count", [1, 2, 30, 59])
def test_a_few_rows_are_enough(count: int, fresh: pa.Table) -> None:
    calibration = fit(rows().filter(pa.array(few(count))), posterior_from=fit(rows(seed=9)))
    for detector in fit_detectors(calibration):
        assert np.isfinite(detector.score(fresh)).all(), detector.name


@pytest.mark.parametrize(
    "changes", [{"statistics": {}}, {"log_prob": np.ones(1300), "statistics": {}}]
)
def test_without_statistics_of_a_kind_all_images_are_alike(changes: dict[str, Any]) -> None:
    table = rows(**changes)
    for detector in fit_detectors(fit(table)):
        scores = detector.score(table)
        assert np.isfinite(scores).all()
        if detector.name == "input_statistics":
            assert set(scores) == {0}


NOISE = np.random.default_rng(8).normal(size=(2, 1300))

ODD: dict[str, dict[str, Any]] = {
    "one far outlier": {"log_prob": np.where(np.arange(1300) % 50 == 0, 1e149, NOISE[0])},
    "almost nothing": {"log_prob": 1e-310 * np.resize([0, 1, 2], 1300)},
    "nothing": {"log_prob": np.zeros(1300), "statistics": {"input_a": np.zeros(1300)}},
    "copies": {"log_prob": NOISE[0], "statistics": dict.fromkeys(("ladj", "input_a"), NOISE[0])},
    "scales": {"log_prob": NOISE[0], "statistics": {"ladj": 1e100 * NOISE[1]}},
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_statistics_break_none(kind: str) -> None:
    table = rows(**ODD[kind])
    for detector in fit_detectors(fit(table)):
        assert np.isfinite(detector.score(table)).all(), detector.name


def test_values_by_name_are_those_of_the_table(fresh: pa.Table) -> None:
    values = values_of(fresh)
    assert list(values) == ["log_prob", "entropy", "log_det", "margin", "input_tv"]
    assert np.array_equal(values["margin"], floats_of(fresh, "stat_margin"))


def test_a_row_without_scores_has_none(detectors: dict[str, Detector], fresh: pa.Table) -> None:
    """NaN, never a number that could be ranked; but for a posterior, which then is uniform."""
    nothing = np.full(300, np.nan)
    blank = changed(fresh, "log_prob", nothing)
    for name in ("log_prob", "typicality", "dose", "flow_statistics", "gate"):
        assert np.isnan(detectors[name].score(blank)).all(), name
