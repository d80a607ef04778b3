"""A summary against what plain numpy says of the whole table, however it is cut."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from calibration import calibration_error
from calibration.calibration import Calibration
from calibration.detection import clopper_pearson
from calibration.drift import DriftTest
from calibration.errors import CalibrationError
from calibration.metrics import brier, nll
from calibration.modes import PREDICTED_CLASS
from calibration.scored_rows import held_out_rows
from calibration.table import TableError, logits_of
from calibration.windows import ks_distance
from service.batch import blocks, reservoir
from service.batch.errors import KEPT, TOLD, ErrorTexts
from service.batch.summary import Summary, summarise
from tests.calibration.tables import fit, rows
from tests.service.batch.verdicts import LABELS, verdicts

COUNT, BROKEN = 900, (0, 7, 899)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(rows())


@pytest.fixture(scope="module")
def table(calibration: Calibration) -> pa.Table:
    return verdicts(calibration, COUNT, broken=BROKEN)


@pytest.fixture(scope="module")
def summary(table: pa.Table, calibration: Calibration) -> Summary:
    return summarise([table], calibration, LABELS)


def good(table: pa.Table) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["error"] is None]


def test_counts(table: pa.Table, summary: Summary) -> None:
    assert (summary.rows, summary.errors.count) == (COUNT, len(BROKEN))
    assert summary.errors.texts == (("N bytes that are not an image", 3),)
    decisions = Counter(row["decision"] for row in good(table))
    assert summary.outcomes.decisions == decisions
    assert min(decisions.values()) > 0
    assert summary.outcomes.scored == 0
    predicted = Counter(row["class_label"] for row in good(table))
    assert dict(summary.outcomes.predictions) == predicted
    assert [n for _, n in summary.outcomes.predictions] == sorted(predicted.values(), reverse=True)
    assert summary.outcomes.other_predictions == 0
    assert summary.outcomes.fdr_rejected is None
    assert (summary.model_name, summary.model_version) == ("pets", "1")


def test_the_share_that_is_rejected_and_what_was_promised(
    table: pa.Table, summary: Summary, calibration: Calibration
) -> None:
    rejected, promise = summary.outcomes.rejected, summary.outcomes.promise
    assert rejected is not None
    assert promise is not None
    count = sum(row["rejected"] for row in good(table))
    assert (rejected.count, rejected.total) == (count, COUNT - 3)
    assert (rejected.low, rejected.high) == clopper_pearson(count, COUNT - 3, 0.99)
    assert promise.alpha.low == promise.alpha.high == 0.05
    assert promise.threshold.low == promise.threshold.high == calibration.threshold()
    assert (promise.delta, promise.mode, promise.reference_size) == (0.05, "marginal", 600)


def test_p_values_are_binned(table: pa.Table, summary: Summary) -> None:
    found = summary.p_values
    assert found is not None
    p = np.array([row["p_value"] for row in good(table)])
    expected = [int(((p > b / 20) & (p <= (b + 1) / 20)).sum()) for b in range(20)]
    assert found.counts == tuple(expected)
    assert found.total == len(p)
    assert found.low is not None
    assert found.high is not None
    assert found.outside is not None
    assert all(low <= len(p) / 20 <= high for low, high in zip(found.low, found.high, strict=True))


def test_the_answers_against_labels(table: pa.Table, summary: Summary) -> None:
    found, known = summary.labelled, good(table)
    assert found is not None
    posterior = np.array([row["posterior"] for row in known])
    labels = np.array([row["label"] for row in known])
    right = posterior.argmax(axis=1) == labels
    accepted = np.array([row["decision"] == "accept" for row in known])
    assert (found.rows, found.unknown) == (len(known), 0)
    assert found.accuracy.share == right.mean()
    assert found.accepted.share == right[accepted].mean()
    assert found.coverage == accepted.mean()
    assert found.nll == pytest.approx(nll(posterior, labels))
    assert found.brier == pytest.approx(brier(posterior, labels))
    assert found.ece == pytest.approx(calibration_error.ece(posterior, labels))
    assert found.ece_rows == sum(one.rows for one in found.bins) == len(known)


def test_labels_that_are_no_class_are_counted_apart(calibration: Calibration) -> None:
    labels = pa.array([None, -1, 4, 0], pa.int64())
    found = summarise([verdicts(calibration, 4, label=labels)], calibration, LABELS)
    assert found.labelled is not None
    assert (found.labelled.rows, found.labelled.unknown) == (1, 2)
    assert {one.label for one in found.atypical} == {None, "-1", "4", "cat"}
    none = summarise([verdicts(calibration, 4, label=labels[:1].take([0] * 4))], None, LABELS)
    assert none.labelled is None


def test_the_most_atypical_come_first(calibration: Calibration) -> None:
    changes = {
        5: {"log_prob": -math.inf},
        3: {"stat_margin": math.nan},
        9: {"stat_margin": 1e6},
    }
    table = verdicts(calibration, 300, changes=changes, broken=(2,))
    found = summarise([table], calibration, LABELS, keep=10).atypical
    assert [one.row for one in found[:3]] == [3, 5, 9]
    assert [math.isnan(one.score) for one in found] == [True] * 2 + [False] * 8
    known = [(i, row) for i, row in enumerate(table.to_pylist()) if row["error"] is None]
    expected = sorted(
        known,
        key=lambda e: (
            e[1]["p_value"],
            -1e300 if e[1]["score"] != e[1]["score"] else -e[1]["score"],
        ),
    )
    assert [one.row for one in found] == [i for i, _ in expected[:10]]
    for one in found:
        row = table.slice(one.row, 1).to_pylist()[0]
        assert (one.id, one.p_value, one.class_label) == (
            row["id"],
            row["p_value"],
            row["class_label"],
        )
        assert one.label == LABELS[row["label"]]
    assert summarise([table], calibration, LABELS, keep=0).atypical == ()
    json.dumps(summarise([table], calibration, LABELS).to_dict(), allow_nan=False)


def test_of_equal_p_values_the_strangest_comes_first(calibration: Calibration) -> None:
    """And of equal scores the first, across blocks as well as within one."""
    count = 2 * blocks.ROWS
    score, p = np.zeros(count), np.full(count, 0.5)
    score[[9, 5000]] = math.inf, math.nan
    p[[20, 8000]] = 0.1
    table = verdicts(calibration, 2).take([0, 1] * (count // 2))
    for name, values in (("score", score), ("p_value", p)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    found = summarise([table], calibration, LABELS, keep=6).atypical
    assert [one.row for one in found] == [20, 8000, 5000, 9, 0, 1]


def test_distances_are_those_of_the_sample(
    table: pa.Table, summary: Summary, calibration: Calibration
) -> None:
    found = summary.change
    assert found is not None
    assert found.alarm is None
    reference = held_out_rows(calibration)
    assert (found.reference_rows, found.sample_rows, found.tested) == (600, 897, 897)
    moved = {one.name: one for one in found.moved}
    assert moved.keys() == {"score", "predicted_class", *reference.columns}
    recent = np.array([row["score"] for row in good(table)])
    assert found.of_score is not None
    assert found.of_score.distance == ks_distance(reference.scores, recent)
    margins = np.array([row["stat_margin"] for row in good(table)])
    assert moved["margin"].distance == ks_distance(reference.columns["margin"], margins)
    assert found.moved[0].effect == max(one.effect for one in found.moved) < 3


def test_the_first_alarm_is_told_by_its_row(calibration: Calibration) -> None:
    before = verdicts(calibration, 300, broken=(4, 250))
    table = pa.concat_tables([before, verdicts(calibration, 400, seed=2, shift=3.0)])
    found = summarise([table], calibration, LABELS).change
    test = DriftTest(held_out_rows(calibration).scores)
    test.update(np.array([row["score"] for row in good(table)]))
    assert found is not None
    assert found.alarm is not None
    assert test.alarm_at is not None
    assert found.alarm.scores == test.alarm_at
    assert found.alarm.row == test.alarm_at - 1 + 2
    assert 300 < found.alarm.row < 450
    assert found.alarm.id == table["id"][found.alarm.row].as_py()
    assert found.tested == 698
    assert found.of_score is not None
    assert found.of_score.effect > 3


@pytest.mark.parametrize("cut", [1, 13, 256, 899])
def test_parts_do_not_matter(
    table: pa.Table,
    calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
) -> None:
    """To the last digit, with blocks and a sample that are smaller than the table, too."""
    monkeypatch.setattr(blocks, "ROWS", 100)
    monkeypatch.setattr(reservoir.Reservoir.__init__, "__defaults__", (50, 0))
    parts = [table.slice(i, cut) for i in range(0, COUNT, cut)]
    empty = table.slice(0, 0)
    whole = summarise([table], calibration, LABELS)
    assert summarise([empty, *parts, empty], calibration, LABELS) == whole
    assert whole.sample_rows == 50
    assert whole.labelled is not None
    assert whole.labelled.ece_rows == 50


def test_blocks_are_the_rows_in_order(table: pa.Table) -> None:
    parts = [table.slice(i, 90) for i in range(0, COUNT, 90)]
    long = [part for _ in range(10) for part in parts]
    found = list(blocks.blocks(long))
    assert [len(block) for block in found] == [4096, 4096, 808]
    assert [block.first for block in found] == [0, 4096, 8192]
    ids = [id_ for block in found for id_ in block.table["id"].to_pylist()]
    assert ids == table["id"].to_pylist() * 10


def test_a_model_without_calibration_has_scores_and_counts() -> None:
    table = verdicts(None, 50, broken=(1,))
    found = summarise([table], None, LABELS)
    assert found.outcomes.scored == 49
    assert found.outcomes.decisions == {"accept": 0, "abstain": 0, "reject": 0}
    assert (found.outcomes.rejected, found.outcomes.promise) == (None, None)
    assert (found.p_values, found.change, found.labelled) == (None, None, None)
    assert found.atypical == ()
    assert found.spread.keys() == {"log_prob"}
    known = [row for row in table.to_pylist() if row["error"] is None]
    top = Counter(LABELS[int(np.argmax(row["logits"]))] for row in known)
    assert dict(found.outcomes.predictions) == top
    densities = sorted(row["log_prob"] for row in known)
    assert found.spread["log_prob"].values[0] == densities[0]
    assert found.spread["log_prob"].values[3] == densities[24]


@pytest.mark.parametrize("count", [0, 3])
def test_without_a_scored_row(calibration: Calibration, count: int) -> None:
    table = verdicts(calibration, count, broken=tuple(range(count)))
    for parts in ([table], []) if not count else ([table],):
        found = summarise(parts, calibration, LABELS)
        assert (found.rows, found.errors.count) == (count, count)
        assert (found.p_values, found.change, found.labelled) == (None, None, None)
        assert (found.atypical, found.spread, found.sample_rows) == ((), {}, 0)
        json.dumps(found.to_dict(), allow_nan=False)


def test_what_is_not_finite_is_a_word_in_json(calibration: Calibration) -> None:
    changes: dict[int, dict[str, Any]] = {
        0: {"log_prob": math.inf},
        1: {"log_prob": -math.inf, "stat_margin": math.inf},
        2: {"logits": [math.nan] * 4},
    }
    table = verdicts(calibration, 4, changes=changes)
    found = summarise([table], calibration, LABELS)
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert [row["score"] for row in plain["atypical"][:3]] == ["nan"] * 3
    assert plain["spread"]["log_prob"]["values"][0] == "-inf"
    assert plain["spread"]["score"]["missing"] == 3
    assert len(plain["p_values"]["outside"]) == 20


def test_other_modes_have_no_band(table: pa.Table) -> None:
    by_class = fit(rows(), mode=PREDICTED_CLASS)
    for found in (summarise([table], by_class, LABELS), summarise([table], None, LABELS)):
        assert found.p_values is not None
        assert (found.p_values.low, found.p_values.high, found.p_values.outside) == (None,) * 3


def test_named_strangers_are_counted(calibration: Calibration) -> None:
    flags = pa.array([True, None, False, True])
    table = verdicts(calibration, 4, fdr_rejected=flags)
    assert summarise([table], calibration, LABELS).outcomes.fdr_rejected == 2
    with pytest.raises(TableError, match="column fdr_rejected: found string, expected bool"):
        summarise([verdicts(None, 1, fdr_rejected=pa.array(["x"]))], None, LABELS)


def test_more_classes_than_are_told() -> None:
    labels = [f"c{k}" for k in range(30)]
    logits = pa.array(np.eye(30, dtype=np.float32).tolist(), pa.list_(pa.float32()))
    found = summarise([verdicts(None, 30, logits=logits)], None, labels).outcomes
    assert found.predictions == tuple((f"c{k}", 1) for k in range(20))
    assert found.other_predictions == 10


def test_what_is_no_table_of_the_model_is_refused(
    table: pa.Table, calibration: Calibration
) -> None:
    with pytest.raises(TableError, match="column p_value: found none, expected double"):
        summarise([table.drop_columns("p_value")], calibration, LABELS)
    with pytest.raises(TableError, match=r"columns: found .* in a part after one with"):
        summarise([table, table.drop_columns("stat_margin")], calibration, LABELS)
    with pytest.raises(TableError, match=r"column logits, row 1: found 4 values, expected 3"):
        summarise([table], None, LABELS[:3])
    with pytest.raises(CalibrationError, match="class_labels: found 3, expected 4"):
        summarise([table], calibration, LABELS[:3])
    with pytest.raises(CalibrationError, match="keep -1: expected"):
        summarise([table], calibration, LABELS, keep=-1)
    far = pa.array([7] * COUNT, pa.int64())
    wrong = table.set_column(table.schema.get_field_index("class_index"), "class_index", far)
    with pytest.raises(
        TableError, match=r"column class_index: found 7, expected a class in \[0, 4"
    ):
        summarise([wrong], calibration, LABELS)


def test_a_table_without_statistics_is_compared_by_what_it_has(
    table: pa.Table, calibration: Calibration
) -> None:
    names = [name for name in table.column_names if name.startswith("stat_")]
    found = summarise([table.drop_columns(names)], calibration, LABELS).change
    assert found is not None
    assert {one.name for one in found.moved} == {"score", "log_prob", "predicted_class"}


def test_error_texts_are_bounded() -> None:
    texts = ErrorTexts()
    texts.add(
        ["a", None, *(f"image {chr(0x4E00 + i)}" for i in range(2 * KEPT)), "a", "1,234.5 b", "7 b"]
    )
    found = texts.result()
    assert found.count == 2 * KEPT + 4
    assert found.texts[0] == ("a", 2)
    assert len(found.texts) == TOLD
    assert found.other == found.count - sum(count for _, count in found.texts)
    assert len(texts._texts) <= KEPT
    texts.add(["\n" * 1000] * 3)
    assert texts.result().count == found.count + 3
    fresh = ErrorTexts()
    fresh.add(["<" * 100_000])
    assert fresh.result().texts == (("<" * 300, 1),)


def test_logits_are_read_as_calibration_reads_them(table: pa.Table) -> None:
    block = next(blocks.blocks([table]))
    found = block.matrix("logits", block.scored, 4)
    np.testing.assert_array_equal(found, logits_of(table)[block.scored])
