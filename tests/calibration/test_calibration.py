"""Fitting a calibration, what it refuses, and its two files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from calibration.calibration import RECORD_FILE, REFERENCE_FILE, Calibration, CalibrationError
from calibration.conformal import UnsupportedAlphaError, pac_threshold
from calibration.prediction_sets import set_quantile
from calibration.table import TableError, logits_of, score_table, table_to_bytes
from calibration.temperature import fit_temperature, softmax

SHA = "ab" * 32
SIZES = {"train": 300, "fit": 400, "cal": 600}


def rows(seed: int = 0, **changes: Any) -> pa.Table:
    """Scores of a make-believe model of 4 classes whose logits are three times too sharp."""
    rng = np.random.default_rng(seed)
    count = sum(SIZES.values())
    logits = 2 * rng.normal(size=(count, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    columns: dict[str, Any] = {
        "ids": [f"{index}.png" for index in range(count)],
        "labels": labels.tolist(),
        "splits": np.repeat(list(SIZES), list(SIZES.values())).tolist(),
        "logits": 3 * logits,
        "log_prob": 2000 + rng.normal(size=count),
        "statistics": {"log_det": rng.normal(size=count), "margin": rng.exponential(size=count)},
    }
    return score_table(**(columns | changes))


def some(split: str) -> npt.NDArray[np.bool_]:
    return np.array(np.repeat(list(SIZES), list(SIZES.values())) == split, dtype=np.bool_)


def without_labels(splits: set[str]) -> pa.Table:
    table = rows()
    pairs = zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True)
    labels = [None if split in splits else label for label, split in pairs]
    return table.set_column(1, "label", pa.array(labels, pa.int64()))


def fit(table: pa.Table, **changes: Any) -> Calibration:
    return Calibration.fit(table, **({"weights_sha256": SHA} | changes))


def test_each_number_comes_from_its_own_rows() -> None:
    found, table = fit(rows()), rows()
    logits, labels = logits_of(table), np.array(table["label"].to_pylist())
    log_prob = table["log_prob"].to_numpy()
    temperature = fit_temperature(logits[some("fit")], labels[some("fit")])
    posterior = softmax(logits[some("cal")], temperature)
    assert found.temperature == temperature == pytest.approx(3, rel=0.15)
    assert found.q_hat == set_quantile(posterior, labels[some("cal")], 0.95)
    assert found.reference.held_out.tolist() == sorted(log_prob[some("cal")])
    assert found.reference.train.tolist() == sorted(log_prob[some("train")])
    assert found.reference.names == ("log_det", "margin")
    assert (found.mode, found.alpha, found.delta, found.set_level) == ("marginal", 0.05, 0.05, 0.95)
    assert (found.reference_size, found.classes, found.posterior_borrowed) == (600, 4, False)


def test_thresholds_follow_from_alpha_and_n() -> None:
    found = fit(rows())
    assert found.threshold() == found.threshold(0.05) == pac_threshold(600, 0.05, 0.05)
    assert found.threshold(0.2) == pac_threshold(600, 0.2, 0.05)
    with pytest.raises(UnsupportedAlphaError, match=r"alpha 0.001 is too small for n = 600"):
        found.check_alpha(0.001)
    with pytest.raises(UnsupportedAlphaError):
        found.threshold(float("nan"))


def test_the_order_of_rows_does_not_matter() -> None:
    table = rows()
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    first, second = fit(table), fit(shuffled)
    assert first.temperature == pytest.approx(second.temperature)
    assert first.q_hat == pytest.approx(second.q_hat)
    assert first.reference.held_out.tolist() == second.reference.held_out.tolist()


def test_rows_with_an_error_are_dropped_and_counted() -> None:
    table = rows()
    broken = score_table(
        ids=["x"],
        labels=None,
        splits=["cal"],
        logits=np.full((1, 4), np.nan),
        log_prob=[np.nan],
        statistics={"log_det": [np.nan], "margin": [np.nan]},
        errors=["truncated"],
    )
    found = fit(pa.concat_tables([broken, table]))
    assert found.record().counts == {**SIZES, "dropped": 1}
    assert table_to_bytes(found.table) == table_to_bytes(fit(table).table)


def test_a_verdict_tables_other_columns_are_left_out() -> None:
    wide = rows().append_column("p_value", pa.array(np.zeros(1300)))
    assert fit(wide).table.column_names == rows().column_names


def test_training_scores_are_optional() -> None:
    table = rows().filter(pa.array(~some("train")))
    found = fit(table)
    assert found.record().train_log_prob is None
    assert found.reference.train.size == 0
    assert fit(rows()).record().counts["train"] == 300


def test_training_scores_are_summarised() -> None:
    scores = rows()["log_prob"].to_numpy()[some("train")]
    summary = fit(rows()).record().train_log_prob
    assert summary is not None
    assert summary["mean"] == pytest.approx(scores.mean())
    assert summary["std"] == pytest.approx(scores.std())
    assert summary["quantiles"]["0.5"] == pytest.approx(np.median(scores), abs=0.05)


@pytest.mark.parametrize("splits", [{"fit"}, {"cal"}, {"fit", "cal", "train"}])
def test_without_labels_the_posterior_is_borrowed(splits: set[str]) -> None:
    lender = fit(rows(seed=9))
    found = fit(without_labels(splits), posterior_from=lender)
    assert (found.temperature, found.q_hat) == (lender.temperature, lender.q_hat)
    assert found.posterior_borrowed
    assert found.reference.held_out.tolist() == fit(rows()).reference.held_out.tolist()


def test_without_fit_rows_the_posterior_is_borrowed() -> None:
    found = fit(rows().filter(pa.array(some("cal"))), posterior_from=fit(rows(seed=9)))
    assert found.posterior_borrowed


def test_with_labels_nothing_is_borrowed() -> None:
    found = fit(rows(), posterior_from=fit(rows(seed=9)))
    assert found.temperature == fit(rows()).temperature
    assert not found.posterior_borrowed


def test_training_rows_need_no_label() -> None:
    assert not fit(without_labels({"train"})).posterior_borrowed


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (lambda: without_labels({"cal"}), r"need labels \(600 of 600 cal rows have none\): label"),
        (lambda: without_labels({"fit", "cal"}), r"\(400 of 400 fit rows .*, 600 of 600 cal rows"),
        (lambda: rows().filter(pa.array(some("cal"))), r"\(no fit rows\): .* pass posterior_from"),
        (lambda: rows().filter(pa.array(some("fit"))), r"no usable row of split cal, expected"),
        (lambda: rows(splits=None), r"column split: found null in 1300 of 1300 rows, expected one"),
        (lambda: rows(log_prob=np.full(1300, np.nan)), r"column log_prob, row 0 .*: found nan"),
        (lambda: rows().drop_columns(["logits"]), r"column logits: found only id, label"),
    ],
)
def test_what_cannot_be_fitted_is_refused(table: Callable[[], pa.Table], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        fit(table())


@pytest.mark.parametrize(
    ("lent", "asked", "text"),
    [
        ({"weights_sha256": "cd" * 32}, {}, r"found weights_sha256 'cdcd.*', expected 'abab"),
        ({"set_level": 0.9}, {}, r"posterior_from: found set_level 0.9, expected 0.95"),
        ({}, {"set_level": 0.9}, r"posterior_from: found set_level 0.95, expected 0.9"),
    ],
)
def test_only_a_calibration_of_the_same_kind_lends(
    lent: dict[str, Any], asked: dict[str, Any], text: str
) -> None:
    lender = fit(rows(seed=9), **lent)
    with pytest.raises(CalibrationError, match=text):
        fit(without_labels({"cal"}), posterior_from=lender, **asked)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"alpha": 0.001}, UnsupportedAlphaError, r"alpha 0.001 is too small for n = 600"),
        ({"alpha": 1.0}, UnsupportedAlphaError, r"alpha 1.0 is not between 0 and 1"),
        ({"delta": 0.0}, CalibrationError, r"delta: found 0.0, expected a number between 0 and 1"),
        ({"set_level": 1.0}, CalibrationError, r"level: found 1.0, expected a number between"),
    ],
)
def test_an_impossible_promise_is_refused_at_fit_time(
    changes: dict[str, float], error: type[CalibrationError], text: str
) -> None:
    with pytest.raises(error, match=text):
        fit(rows(), **changes)


def test_saving_and_loading_gives_the_same_answers(tmp_path: Path) -> None:
    first = fit(rows(), alpha=0.1)
    first.save(tmp_path / "a" / "calibration")
    second = Calibration.load(tmp_path / "a" / "calibration")
    other = rows(seed=4)
    statistics = {name: other[f"stat_{name}"].to_numpy() for name in first.reference.names}
    scores = (logits_of(other), other["log_prob"].to_numpy(), statistics)
    answers = zip(
        vars(first.decide(*scores)).items(), vars(second.decide(*scores)).values(), strict=True
    )
    for (name, one), two in answers:
        assert np.array_equal(one, two) if name != "unusual" else one == two
    assert second.record() == first.record()


def test_bytes_are_the_same_for_the_same_input(tmp_path: Path) -> None:
    fit(rows()).save(tmp_path / "one")
    fit(rows()).save(tmp_path / "two")
    Calibration.load(tmp_path / "one").save(tmp_path / "three")
    for name in (RECORD_FILE, REFERENCE_FILE):
        contents = {(tmp_path / folder / name).read_bytes() for folder in ("one", "two", "three")}
        assert len(contents) == 1


def test_the_json_is_plain_and_complete(tmp_path: Path) -> None:
    calibration = fit(rows())
    calibration.save(tmp_path)
    content = json.loads((tmp_path / RECORD_FILE).read_text())
    assert content == asdict(calibration.record())
    assert content["threshold"] == calibration.threshold()
    assert content["counts"] == {**SIZES, "dropped": 0}
    assert content["weights_sha256"] == SHA


@pytest.mark.parametrize("name", [RECORD_FILE, REFERENCE_FILE])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    fit(rows()).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CalibrationError, match=rf"{name}: cannot be read \(No such file"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize("name", [RECORD_FILE, REFERENCE_FILE])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2]", b"{}"])
def test_a_file_of_something_else_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    fit(rows()).save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CalibrationError, match=rf"{tmp_path}: {name}: "):
        Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("alpha", None, "alpha: missing"),
        ("surprise", 1, "surprise: an unknown key"),
        ("schema_version", 2, "schema_version: found 2, expected 1"),
        ("mode", "by-class", "mode: found 'by-class', expected 'marginal'"),
        ("temperature", "hot", "temperature: found 'hot', expected <class 'float'>"),
        ("temperature", True, "temperature: found True, expected <class 'float'>"),
        ("temperature", -1.0, "temperature: found -1.0, expected above 0"),
        ("temperature", float("nan"), "temperature: found nan, expected above 0"),
        ("q_hat", 1.5, r"q_hat: found 1.5, expected a number in \[0, 1\]"),
        ("set_level", 2, r"set_level: found 2, expected in \(0, 1\)"),
        ("delta", 0, "delta: found 0, expected a number between 0 and 1"),
        ("alpha", 0.0001, "alpha 0.0001 is too small for n = 600"),
        ("threshold", 0.05, "threshold: found 0.05, expected 0.0349.* from reference.parquet"),
        ("classes", 5, "classes: found 5, expected 4 from reference.parquet"),
        ("counts", {"cal": 5}, "counts: found .*'cal': 5.* expected .*'cal': 600"),
        ("counts", {"dropped": "x"}, "counts: found .* expected"),
        ("statistics", [], r"statistics: found \[\], expected \['log_det', 'margin'\]"),
        ("train_log_prob", None, "train_log_prob: found None, expected .*mean"),
    ],
)
def test_a_changed_json_is_refused_by_key(key: str, value: Any, text: str) -> None:
    calibration = fit(rows())
    content: dict[str, Any] = asdict(calibration.record()) | {key: value}
    if text.endswith("missing"):
        del content[key]
    with pytest.raises(CalibrationError, match=rf"^calibration.json: {text}"):
        Calibration.from_bytes(json.dumps(content).encode(), table_to_bytes(calibration.table))


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (lambda: rows().filter(pa.array(~some("cal"))), "found no usable row of split cal"),
        (lambda: rows(splits=None), "column split: found null in 1300 of 1300 rows"),
        (lambda: rows(errors=["x"] + [None] * 1299), "found rows with an error, expected none"),
        (lambda: rows(log_prob=np.full(1300, np.inf)), r"column log_prob, row 0 .*: found inf"),
    ],
)
def test_a_reference_that_is_none_is_refused(reference: Callable[[], pa.Table], text: str) -> None:
    record = fit(rows()).record().to_bytes()
    with pytest.raises(CalibrationError, match=rf"^reference.parquet: {text}"):
        Calibration.from_bytes(record, table_to_bytes(reference()))


def test_damaged_bytes_are_refused_or_read_and_nothing_else() -> None:
    """Whatever is damaged, no other error gets out; the bundle's hashes find what still reads."""
    calibration = fit(rows())
    contents = [calibration.record().to_bytes(), table_to_bytes(calibration.table)]
    rng, refused = np.random.default_rng(6), 0
    for attempt in range(300):
        damaged = [bytearray(content) for content in contents]
        target = damaged[attempt % 2]
        places = rng.integers(len(target) - 400, len(target), size=4)
        target[int(places[0])] = int(rng.integers(256))
        del target[int(places[1]) : int(places[1]) + attempt % 3]
        try:
            Calibration.from_bytes(bytes(damaged[0]), bytes(damaged[1]))
        except CalibrationError:
            refused += 1
    assert refused > 200


def test_the_reference_of_another_calibration_is_refused() -> None:
    record, other = fit(rows()).record().to_bytes(), rows(seed=1)
    with pytest.raises(CalibrationError, match=r"train_log_prob: found .* from reference.parquet"):
        Calibration.from_bytes(record, table_to_bytes(other))


def test_every_error_is_a_value_error_of_one_tree() -> None:
    assert issubclass(TableError, CalibrationError)
    assert issubclass(UnsupportedAlphaError, CalibrationError)
    assert issubclass(CalibrationError, ValueError)
