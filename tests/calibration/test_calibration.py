"""Fitting a calibration: what comes from which rows, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from calibration.calibration import CalibrationError
from calibration.combined_score import CombinedScore
from calibration.conformal import pac_threshold
from calibration.errors import UnsupportedAlphaError
from calibration.files import record_of
from calibration.modes import LABEL_SHIFT_SAFE, MARGINAL, MODES, PREDICTED_CLASS
from calibration.prediction_sets import LAC, SET_METHODS, set_quantile
from calibration.score_file import score_to_bytes
from calibration.table import (
    TableError,
    floats_of,
    logits_of,
    score_table,
    statistics_of,
    table_to_bytes,
)
from calibration.temperature import fit_temperature, softmax
from calibration.vector_scaling import fit_vector_scaling
from tests.calibration.tables import BOUND, NAMES, SIZES, SPLIT, fit, only, rows, some
from tests.calibration.tables import without_labels as unlabelled


def test_each_number_comes_from_its_own_rows() -> None:
    found, table = fit(rows()), rows()
    logits, labels = logits_of(table), np.array(table["label"].to_pylist())
    log_prob = table["log_prob"].to_numpy()
    temperature = fit_temperature(logits[some("fit")], labels[some("fit")])
    posterior = softmax(logits[some("cal")], temperature)
    assert found.posterior.temperature == temperature == pytest.approx(3, rel=0.15)
    assert found.posterior.q_hat == set_quantile(posterior, labels[some("cal")], 0.95, LAC)
    assert found.reference.held_out.tolist() == sorted(log_prob[some("cal")])
    assert found.reference.train.tolist() == sorted(log_prob[some("train")])
    assert found.reference.names == NAMES
    assert (found.mode, found.alpha, found.delta, found.set_level) == ("marginal", 0.05, 0.05, 0.95)
    assert (found.reference_size, found.classes, found.posterior_borrowed) == (600, 4, False)
    assert found.bound == BOUND


def test_the_score_is_that_of_the_fit_rows() -> None:
    part = only(rows(), "fit")
    values = {"log_prob": floats_of(part, "log_prob"), **statistics_of(part)}
    alone = CombinedScore.fit(values, logits_of(part).argmax(axis=1), 4)
    assert score_to_bytes(fit(rows()).combined) == score_to_bytes(alone)
    assert alone.rows == SIZES["fit"]


@pytest.mark.parametrize("split", ["train", "cal"])
def test_the_score_has_not_seen_other_rows(split: str) -> None:
    """Whatever they are, S is the same: so cal rows and new ones stay exchangeable."""
    other = np.where(some(split), 77 + np.arange(len(SPLIT)), rows()["log_prob"].to_numpy())
    changed = fit(rows(log_prob=other))
    assert score_to_bytes(changed.combined) == score_to_bytes(fit(rows()).combined)


@pytest.mark.parametrize("method", ["temperature", "vector"])
@pytest.mark.parametrize("sets", SET_METHODS)
def test_posterior_and_sets_may_be_chosen(method: str, sets: str) -> None:
    table = rows()
    found = fit(table, posterior_method=method, set_method=sets).posterior
    logits, labels = logits_of(table), np.array(table["label"].to_pylist())
    known = logits[some("fit")], labels[some("fit")]
    assert (found.method, found.set_method) == (method, sets)
    expected = (
        fit_vector_scaling(*known)(logits)
        if method == "vector"
        else softmax(logits, fit_temperature(*known))
    )
    assert np.array_equal(found(logits), expected)
    held_out = expected[some("cal")], labels[some("cal")]
    assert found.q_hat == set_quantile(*held_out, 0.95, sets)


def test_thresholds_follow_from_alpha_and_n() -> None:
    found = fit(rows())
    assert found.threshold() == found.threshold(0.05) == pac_threshold(600, 0.05, 0.05)
    assert found.threshold(0.2) == pac_threshold(600, 0.2, 0.05)
    with pytest.raises(UnsupportedAlphaError, match=r"alpha 0.001 is too small for n = 600"):
        found.check_alpha(0.001)
    with pytest.raises(UnsupportedAlphaError):
        found.threshold(float("nan"))


@pytest.mark.parametrize("mode", MODES)
def test_thresholds_are_those_of_the_mode(mode: str) -> None:
    table = only(rows(), "cal")
    predicted, labels = logits_of(table).argmax(axis=1), np.array(table["label"].to_pylist())
    found = fit(rows(), mode=mode)
    sizes = {
        MARGINAL: [600],
        PREDICTED_CLASS: np.bincount(predicted).tolist(),
        LABEL_SHIFT_SAFE: np.bincount(labels).tolist(),
    }[mode]
    assert found.ranking.sizes.tolist() == sizes
    bounds = [pac_threshold(n, 0.05, 0.05) for n in sizes]
    if mode == LABEL_SHIFT_SAFE:  # the largest p that is within the bound of every class
        assert min(bounds) <= found.threshold() <= max(bounds)
    else:
        assert found.threshold() == min(bounds)
    assert found.ranking.thresholds(0.05).shape == (4,)


def test_the_order_of_rows_does_not_matter() -> None:
    table = rows()
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    first, second = fit(table), fit(shuffled)
    assert first.posterior.temperature == pytest.approx(second.posterior.temperature)
    assert first.posterior.q_hat == pytest.approx(second.posterior.q_hat)
    assert first.reference.held_out.tolist() == second.reference.held_out.tolist()
    assert score_to_bytes(first.combined) == score_to_bytes(second.combined)


def test_rows_with_an_error_are_dropped_and_counted() -> None:
    table = rows()
    broken = score_table(
        ids=["x"],
        labels=None,
        splits=["cal"],
        logits=np.full((1, 4), np.nan),
        log_prob=[np.nan],
        statistics={name: [np.nan] for name in NAMES},
        errors=["truncated"],
    )
    found = fit(pa.concat_tables([broken, table]))
    assert record_of(found).counts == {**SIZES, "dropped": 1}
    assert table_to_bytes(found.table) == table_to_bytes(fit(table).table)


def test_a_verdict_tables_other_columns_are_left_out() -> None:
    wide = rows().append_column("p_value", pa.array(np.zeros(1300)))
    assert fit(wide).table.column_names == rows().column_names


def test_training_scores_are_optional() -> None:
    found = fit(only(rows(), "fit", "cal"))
    assert record_of(found).train_log_prob is None
    assert found.reference.train.size == 0
    assert record_of(fit(rows())).counts["train"] == 300


def test_training_scores_are_summarised() -> None:
    scores = rows()["log_prob"].to_numpy()[some("train")]
    summary = record_of(fit(rows())).train_log_prob
    assert summary is not None
    assert summary["mean"] == pytest.approx(scores.mean())
    assert summary["std"] == pytest.approx(scores.std())
    assert summary["quantiles"]["0.5"] == pytest.approx(np.median(scores), abs=0.05)


@pytest.mark.parametrize("splits", [["fit"], ["cal"], ["fit", "cal", "train"]])
def test_without_labels_the_posterior_is_borrowed(splits: list[str]) -> None:
    lender = fit(rows(seed=9))
    found = fit(unlabelled(*splits), posterior_from=lender)
    assert found.posterior is lender.posterior
    assert found.posterior_borrowed
    assert found.reference.held_out.tolist() == fit(rows()).reference.held_out.tolist()
    assert score_to_bytes(found.combined) == score_to_bytes(fit(rows()).combined)


def test_without_fit_rows_the_posterior_is_borrowed_and_the_score_is_of_train_rows() -> None:
    table = only(rows(), "train", "cal")
    found = fit(table, posterior_from=fit(rows(seed=9)))
    part = only(rows(), "train")
    alone = CombinedScore.fit(
        {"log_prob": floats_of(part, "log_prob")}, logits_of(part).argmax(axis=1), 4
    )
    assert found.posterior_borrowed
    assert found.combined.names == ("log_prob",)
    assert score_to_bytes(found.combined) == score_to_bytes(alone)


def test_without_fit_and_train_rows_there_is_no_score() -> None:
    with pytest.raises(CalibrationError, match=r"found neither fit nor train rows, expected some"):
        fit(only(rows(), "cal"), posterior_from=fit(rows(seed=9)))


def test_with_labels_nothing_is_borrowed() -> None:
    found = fit(rows(), posterior_from=fit(rows(seed=9)))
    assert found.posterior.temperature == fit(rows()).posterior.temperature
    assert not found.posterior_borrowed


def test_training_rows_need_no_label() -> None:
    assert not fit(unlabelled("train")).posterior_borrowed


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (lambda: unlabelled("cal"), r"need labels \(600 of 600 cal rows have none\): label"),
        (lambda: unlabelled("fit", "cal"), r"\(400 of 400 fit rows .*, 600 of 600 cal rows"),
        (lambda: only(rows(), "cal"), r"\(no fit rows\): .* pass posterior_from"),
        (lambda: only(rows(), "fit"), r"no usable row of split cal, expected"),
        (lambda: rows(splits=None), r"column split: found null in 1300 of 1300 rows, expected one"),
        (lambda: rows(log_prob=np.full(1300, np.nan)), r"column log_prob, row 0 .*: found nan"),
        (lambda: rows(log_prob=np.full(1300, -1e200)), r"log_prob: found 1e\+200, expected at mo"),
        (lambda: rows().drop_columns(["logits"]), r"column logits: found only id, label"),
    ],
)
def test_what_cannot_be_fitted_is_refused(table: Callable[[], pa.Table], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        fit(table())


@pytest.mark.parametrize(
    ("lent", "asked", "text"),
    [
        ({"bound": replace(BOUND, weights_sha256="cd" * 32)}, {}, r"found model .*cdcd.* .*abab"),
        ({"bound": replace(BOUND, preprocessing_sha256="34" * 32)}, {}, r"found model .*3434"),
        ({"bound": replace(BOUND, dtype="bfloat16")}, {}, r"found model .*bfloat16.* .*float32"),
        ({"set_level": 0.9}, {}, r"posterior_from: found set_level 0.9, expected 0.95"),
        ({}, {"set_level": 0.9}, r"posterior_from: found set_level 0.95, expected 0.9"),
    ],
)
def test_only_a_calibration_of_the_same_kind_lends(
    lent: dict[str, Any], asked: dict[str, Any], text: str
) -> None:
    lender = fit(rows(seed=9), **lent)
    with pytest.raises(CalibrationError, match=text):
        fit(unlabelled("cal"), posterior_from=lender, **asked)


def test_a_calibration_of_other_classes_does_not_lend() -> None:
    more = np.pad(logits_of(rows()), ((0, 0), (0, 1)))
    with pytest.raises(CalibrationError, match=r"posterior_from: found classes 5, expected 4"):
        fit(unlabelled("cal"), posterior_from=fit(rows(logits=more)))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"alpha": 0.001}, UnsupportedAlphaError, r"alpha 0.001 is too small for n = 600"),
        ({"alpha": 1.0}, UnsupportedAlphaError, r"alpha 1.0 is not between 0 and 1"),
        ({"delta": 0.0}, CalibrationError, r"delta: found 0.0, expected a number between 0 and 1"),
        ({"set_level": 1.0}, CalibrationError, r"set_level: found 1.0, expected in"),
        ({"mode": "by-class"}, CalibrationError, r"mode: found 'by-class', expected one of marg"),
        ({"posterior_method": "x"}, CalibrationError, r"posterior: found 'x', expected temperatu"),
        ({"set_method": "x"}, CalibrationError, r"set_method: found 'x', expected lac or aps"),
        ({"mode": PREDICTED_CLASS, "alpha": 0.01}, UnsupportedAlphaError, r"limited by class \d"),
    ],
)
def test_an_impossible_promise_is_refused_at_fit_time(
    changes: dict[str, Any], error: type[CalibrationError], text: str
) -> None:
    with pytest.raises(error, match=text):
        fit(rows(), **changes)


def test_a_mode_wants_rows_of_every_class() -> None:
    lender = fit(rows(seed=9))
    with pytest.raises(CalibrationError, match=r"mode label_shift_safe: 600 of 600 .* no label"):
        fit(unlabelled("cal"), posterior_from=lender, mode=LABEL_SHIFT_SAFE)
    never = logits_of(rows()) * np.where(some("cal"), [[0], [0], [0], [1]], 1).T  # class 3 or 0
    with pytest.raises(CalibrationError, match=r"mode predicted_class: no .* predicted class 1 "):
        fit(rows(logits=never), mode=PREDICTED_CLASS)


def test_every_error_is_a_value_error_of_one_tree() -> None:
    assert issubclass(TableError, CalibrationError)
    assert issubclass(UnsupportedAlphaError, CalibrationError)
    assert issubclass(CalibrationError, ValueError)


def test_a_calibration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        fit(rows()).alpha = 0.1  # type: ignore[misc]
