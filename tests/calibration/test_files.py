"""The three files of a calibration: what is written comes back, and nothing else is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from calibration.calibration import Calibration, CalibrationError
from calibration.files import (
    FILES,
    RECORD_FILE,
    REFERENCE_FILE,
    SCORE_FILE,
    from_files,
    load,
    record_of,
    save,
    to_files,
)
from calibration.modes import MODES
from calibration.score_file import score_to_bytes
from calibration.table import floats_of, logits_of, statistics_of, table_to_bytes
from tests.calibration.tables import BOUND, SIZES, fit, only, rows, some, without_labels


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(rows(), alpha=0.1, posterior_method="vector")


@pytest.fixture(scope="module")
def contents(calibration: Calibration) -> dict[str, bytes]:
    return to_files(calibration)


def with_record(contents: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    record = json.loads(contents[RECORD_FILE]) | changes
    return {**contents, RECORD_FILE: json.dumps(record).encode()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_saving_and_loading_gives_the_same_answers(mode: str, method: str, tmp_path: Path) -> None:
    first = fit(rows(), alpha=0.1, mode=mode, posterior_method=method, set_method="aps")
    save(first, tmp_path / "a" / "calibration")
    second = load(tmp_path / "a" / "calibration")
    other = rows(seed=4)
    scores = logits_of(other), floats_of(other, "log_prob"), statistics_of(other)
    answers = zip(
        vars(first.decide(*scores)).items(), vars(second.decide(*scores)).values(), strict=True
    )
    for (name, one), two in answers:
        assert np.array_equal(one, two) if name != "unusual" else one == two
    assert record_of(second) == record_of(first)
    assert second.bound == BOUND


def test_a_borrowed_posterior_and_a_score_of_train_rows_come_back() -> None:
    lender = fit(rows(seed=9))
    for table in (without_labels("cal"), only(rows(), "train", "cal")):
        first = fit(table, posterior_from=lender)
        second = from_files(to_files(first))
        assert second.posterior_borrowed
        assert vars(second.posterior) == vars(lender.posterior)
        assert score_to_bytes(second.combined) == score_to_bytes(first.combined)


def test_bytes_are_the_same_for_the_same_input(tmp_path: Path) -> None:
    save(fit(rows()), tmp_path / "one")
    save(fit(rows()), tmp_path / "two")
    save(load(tmp_path / "one"), tmp_path / "three")
    for name in FILES:
        found = {(tmp_path / folder / name).read_bytes() for folder in ("one", "two", "three")}
        assert len(found) == 1


def test_the_json_is_plain_and_complete() -> None:
    calibration = fit(rows())
    content = json.loads(to_files(calibration)[RECORD_FILE])
    assert content == asdict(record_of(calibration))
    assert content["schema_version"] == 2
    assert content["thresholds"] == [calibration.threshold()]
    assert content["reference_sizes"] == [600]
    assert content["counts"] == {**SIZES, "dropped": 0}
    assert (content["score_rows"], content["score_groups"]) == (400, 4)
    assert {key: content[key] for key in asdict(BOUND)} == asdict(BOUND)
    assert content["weights"] is content["offsets"] is None


@pytest.mark.parametrize("mode", MODES)
def test_the_json_has_the_bounds_of_the_mode(mode: str) -> None:
    calibration = fit(rows(), mode=mode)
    record = record_of(calibration)
    assert min(record.thresholds) == calibration.threshold()
    assert len(record.thresholds) == (4 if mode == "predicted_class" else 1)
    assert len(record.reference_sizes) == (1 if mode == "marginal" else 4)
    assert sum(record.reference_sizes) == 600


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(
    name: str, calibration: Calibration, contents: dict[str, bytes], tmp_path: Path
) -> None:
    save(calibration, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CalibrationError, match=rf"{name}: cannot be read \(No such file"):
        load(tmp_path)
    with pytest.raises(CalibrationError, match=f"^{name}: missing"):
        from_files({key: content for key, content in contents.items() if key != name})


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2]", b"{}", b"[" * 100_000])
def test_a_file_of_something_else_is_named(
    name: str, content: bytes, calibration: Calibration, tmp_path: Path
) -> None:
    save(calibration, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CalibrationError, match=rf"{tmp_path}: {name}: "):
        load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("alpha", None, "alpha: missing"),
        ("surprise", 1, "surprise: an unknown key"),
        ("schema_version", 1, "schema_version: found 1, expected 2; calibrate again"),
        ("schema_version", 2.0, "schema_version: found 2.0, expected <class 'int'>"),
        ("mode", "by-class", "mode: found 'by-class', expected one of marginal, "),
        ("mode", "predicted_class", "thresholds: found .*, expected "),
        ("temperature", "hot", "temperature: found 'hot', expected <class 'float'>"),
        ("temperature", True, "temperature: found True, expected <class 'float'>"),
        ("temperature", 10**400, "temperature: found 1000.*, expected <class 'float'>"),
        ("temperature", -1.0, "temperature: found -1.0, expected above 0"),
        ("temperature", float("nan"), "temperature: found nan, expected above 0"),
        ("weights", None, "weights and offsets: found one of them, expected both or neither"),
        ("weights", [1.0], "weights: found 1 and 4 offsets, expected 4 of each"),
        ("weights", ["a"] * 4, r"weights: found \['a', .*, expected list\[float\]"),
        ("weights", [[1.0]] * 4, r"weights: found .*, expected list\[float\]"),
        ("weights", [-1.0] * 4, "weights: found .*, expected finite numbers, the weights above 0"),
        ("offsets", [float("inf")] * 4, "weights: found .* and offsets .*inf.*, expected finite"),
        ("set_method", "raps", "set_method: found 'raps', expected lac or aps"),
        ("q_hat", 1.5, r"q_hat: found 1.5, expected a number in \[0, 1\]"),
        ("set_level", 2, r"set_level: found 2, expected in \(0, 1\)"),
        ("delta", 0, "delta: found 0, expected a number between 0 and 1"),
        ("alpha", 0.0001, "mode marginal: alpha 0.0001 is too small for n = 600"),
        (
            "thresholds",
            [0.05],
            r"thresholds: found \[0.05\], expected \[0.079.* from reference",
        ),
        ("reference_sizes", [599], r"reference_sizes: found \[599\], expected \[600\]"),
        ("classes", 5, "weights: found 4 and 4 offsets, expected 5 of each"),
        ("score_rows", 5, "score_rows: found 5, expected 400"),
        ("score_groups", 5, "score_groups: found 5, expected 4"),
        ("counts", {"cal": 5}, "counts: found .*'cal': 5.* expected .*'cal': 600"),
        ("counts", {**SIZES, "dropped": "x"}, "counts: found .* expected"),
        ("counts", {**SIZES, "dropped": -1}, "counts: found .* expected"),
        ("statistics", [], r"statistics: found \[\], expected \['entropy', 'log_det'"),
        ("statistics", [1], r"statistics: found \[1\], expected list\[str\]"),
        ("train_log_prob", None, "train_log_prob: found None, expected .*mean"),
    ],
)
def test_a_changed_json_is_refused_by_key(
    key: str, value: Any, text: str, contents: dict[str, bytes]
) -> None:
    changed = with_record(contents, **{key: value})
    if text.endswith("missing"):
        record = json.loads(changed[RECORD_FILE])
        del record[key]
        changed[RECORD_FILE] = json.dumps(record).encode()
    with pytest.raises(CalibrationError, match=rf"^calibration.json: {text}"):
        from_files(changed)


def test_a_record_of_another_version_is_told_by_it() -> None:
    """Not by the keys that it has or lacks, which say nothing of what to do."""
    files = {**to_files(fit(rows())), RECORD_FILE: b'{"schema_version": 1, "threshold": 0.04}'}
    with pytest.raises(CalibrationError, match=r"schema_version: found 1, expected 2; calibrate"):
        from_files(files)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (lambda: only(rows(), "train", "fit"), "found no usable row of split cal"),
        (lambda: rows(splits=None), "column split: found null in 1300 of 1300 rows"),
        (lambda: rows(errors=["x"] + [None] * 1299), "found rows with an error, expected none"),
        (lambda: rows(log_prob=np.full(1300, np.inf)), r"column log_prob, row 0 .*: found inf"),
    ],
)
def test_a_reference_that_is_none_is_refused(
    reference: Callable[[], pa.Table], text: str, contents: dict[str, bytes]
) -> None:
    with pytest.raises(CalibrationError, match=rf"^reference.parquet: {text}"):
        from_files({**contents, REFERENCE_FILE: table_to_bytes(reference())})


def test_the_reference_of_another_calibration_is_refused(contents: dict[str, bytes]) -> None:
    other = {**contents, REFERENCE_FILE: table_to_bytes(rows(seed=1))}
    with pytest.raises(CalibrationError, match=r"train_log_prob: found .* from reference.parquet"):
        from_files(other)


def test_a_score_that_cannot_be_had_of_the_rows_is_refused(contents: dict[str, bytes]) -> None:
    other = rows(statistics={"entropy": np.arange(1300.0), "other": np.arange(1300.0)})
    foreign = {**contents, SCORE_FILE: score_to_bytes(fit(other).combined)}
    with pytest.raises(CalibrationError, match=r"^score.safetensors: found a score of .*other and"):
        from_files(foreign)
    more = fit(rows(logits=np.pad(logits_of(rows()), ((0, 0), (0, 1)))))
    foreign = {**contents, SCORE_FILE: score_to_bytes(more.combined)}
    with pytest.raises(CalibrationError, match=r"^score.safetensors: .* 5 classes, expected .* 4"):
        from_files(foreign)


def test_a_score_of_fewer_rows_than_the_record_says_is_refused(contents: dict[str, bytes]) -> None:
    fewer = fit(rows().filter(pa.array(~some("fit") | (np.arange(1300) % 2 == 0))))
    with pytest.raises(CalibrationError, match=r"score_rows: found 400, expected 200 from .*score"):
        from_files({**contents, SCORE_FILE: score_to_bytes(fewer.combined)})


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers of any size, in a damaged score
@pytest.mark.parametrize("name", FILES)
def test_damaged_bytes_are_refused_or_read_and_nothing_else(
    name: str, contents: dict[str, bytes]
) -> None:
    """Whatever is damaged, no other error gets out; the bundle's hashes find what still reads."""
    rng, refused = np.random.default_rng(6), 0
    for attempt in range(120):
        target = bytearray(contents[name])
        places = rng.integers(len(target), size=4)
        target[int(places[0])] = int(rng.integers(256))
        del target[int(places[1]) : int(places[1]) + attempt % 3]
        try:
            from_files({**contents, name: bytes(target)})
        except CalibrationError:
            refused += 1
    assert refused > 60


def test_what_does_not_sum_up_is_refused_before_it_is_written() -> None:
    """Its square would be no number, and so no JSON."""
    with pytest.raises(CalibrationError, match=r"column log_prob: found 1e\+160, expected at most"):
        fit(rows(log_prob=np.resize([1e160, -1e160], 1300)))
