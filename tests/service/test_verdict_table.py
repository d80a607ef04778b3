"""Scoring a set into a verdict table: its columns, its rows, and what it refuses."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibration.errors import UnsupportedAlphaError
from calibration.table import SCORE_SCHEMA, logits_of, read_table, statistics_of
from model.image import decode
from model.statistics import RESOLUTION
from service.batch.images import batches
from service.bundle import Bundle, BundleError
from service.predictor import Predictor
from service.scorer import Scorer, open_scorer
from service.verdict_table import VERDICT_FIELDS
from train.data import Row, open_data

#: contracts.md, "The verdict", flat.
CONTRACT = (
    *("class_index", "class_label", "posterior", "prediction_set"),
    *("p_value", "p_typicality", "p_train"),
    *("alpha", "delta", "mode", "threshold", "reference_size"),
    *("decision", "rejected", "reason"),
    *("score", "log_prob", "bits_per_dim", "unusual"),
    *("model_name", "model_version", "id", "label", "logits", "split", "error"),
)
#: Some of ``model.statistics`` and of ``model.input_statistics``.
STATISTICS = {"ladj", "ladj_1", "mean_square_1", "class_distance", "margin", "entropy", "kurtosis"}
STATISTICS |= {"band_1", "place_11", "input_complexity", "input_mean", "input_band_1"}


def inputs(count: int = 20) -> list[Row]:
    """Digits, with something that is no image in third place."""
    rows = list(islice(open_data("digits:test"), count))
    return [*rows[:2], Row(id="broken.png", image=b"junk", label=4), *rows[2:]]


def write(source: Path, rows: list[Row], **options: Any) -> pa.Table:
    asked = {"bundles": None, "alpha": None, "statistics": True} | options
    scorer = open_scorer(str(source), **asked)
    schema = scorer.schema()
    found = [scorer(batch, schema) for batch in batches(rows, scorer.spec, 64)]
    return pa.concat_tables([schema.empty_table(), *found])


@pytest.fixture
def table(bundle_dir: Path) -> pa.Table:
    return write(bundle_dir, inputs())


def test_columns_are_those_of_the_contract(table: pa.Table, bundle: Bundle) -> None:
    named = {name for name in table.column_names if not name.startswith("stat_")}
    assert named == set(CONTRACT)
    assert set(statistics_of(table)) == set(bundle.calibration.reference.names) > STATISTICS
    for field in (*SCORE_SCHEMA, *VERDICT_FIELDS):
        assert table.schema.field(field.name).type == field.type
    assert table.schema.metadata.items() >= SCORE_SCHEMA.metadata.items()


def test_it_is_a_score_table(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert logits_of(found).shape == (21, 10)


def test_rows_keep_their_order(table: pa.Table) -> None:
    assert table["id"].to_pylist() == [row.id for row in inputs()]
    assert table["label"].to_pylist() == [row.label for row in inputs()]


def test_what_is_no_image_is_a_row_with_its_error(table: pa.Table) -> None:
    row = table.slice(2, 1).to_pylist()[0]
    known = {"id": "broken.png", "label": 4, "model_name": "digits"}
    assert row["error"].startswith("4 bytes that are not an image")
    assert {key: row[key] for key in known} == known
    rest = set(row) - {"error", "model_version", *known}
    assert all(row[key] is None for key in rest)
    others = table.filter(pa.compute.is_valid(table["decision"]))
    assert others["error"].null_count == others.num_rows == 20


def test_online_and_batch_agree(table: pa.Table, bundle: Bundle) -> None:
    predictor = Predictor(bundle)
    step = 1 / (bundle.calibration.reference_size + 1)
    for row, given in zip(table.to_pylist(), inputs(), strict=True):
        if row["error"] is not None:
            continue
        verdict = predictor(decode(given.image, bundle.spec)[None])[0]
        exact = asdict(verdict)
        for name in (
            *("class_index", "class_label", "alpha", "delta", "mode", "threshold"),
            *("reference_size", "decision", "rejected", "reason"),
        ):
            assert row[name] == exact[name], name
        assert row["prediction_set"] == list(verdict.prediction_set)
        assert row["posterior"] == pytest.approx(verdict.posterior, abs=1e-4)
        for name in ("p_value", "p_typicality"):
            assert row[name] == pytest.approx(exact[name], abs=2 * step + 1e-12)
        for name in ("log_prob", "score", "bits_per_dim"):
            assert row[name] == pytest.approx(exact[name], abs=1.01 * RESOLUTION["log_prob"])
        assert [entry["statistic"] for entry in row["unusual"]] == [
            entry.statistic for entry in verdict.unusual
        ]
        assert (row["model_name"], row["model_version"]) == (bundle.name, bundle.version)


def test_a_verdict_follows_from_its_row(table: pa.Table) -> None:
    for row in table.to_pylist():
        if row["error"] is None:
            assert row["rejected"] == (row["p_value"] <= row["threshold"])
            assert row["class_label"] in row["prediction_set"]
            assert sum(row["posterior"]) == pytest.approx(1, abs=1e-5)
            kinds = {"reject": "atypical_input", "abstain": "ambiguous", "accept": None}
            assert row["reason"] == kinds[row["decision"]]


def test_without_statistics(bundle_dir: Path) -> None:
    table = write(bundle_dir, inputs(3), statistics=False)
    assert set(table.column_names) == set(CONTRACT)
    assert table["unusual"].null_count == 1


def test_a_bare_checkpoint_gives_scores_only(checkpoint_dir: Path) -> None:
    table = write(checkpoint_dir, inputs(3))
    assert table["log_prob"].null_count == table["logits"].null_count == 1
    for name in ("decision", "p_value", "posterior", "model_version"):
        assert table[name].null_count == 4
    assert set(table["model_name"].to_pylist()) == {"digits"}
    with pytest.raises(BundleError, match="is not calibrated, so it can hold no alpha"):
        open_scorer(str(checkpoint_dir), None, 0.1, True)


def test_alpha_may_be_asked_for(bundle_dir: Path) -> None:
    table = write(bundle_dir, inputs(3), alpha=0.2)
    alphas, thresholds = (
        set(table[name].drop_null().to_pylist()) for name in ("alpha", "threshold")
    )
    assert alphas == {0.2}
    assert thresholds == {Bundle.load(bundle_dir).calibration.threshold(0.2)}


def test_an_alpha_that_the_reference_cannot_support(bundle_dir: Path) -> None:
    with pytest.raises(UnsupportedAlphaError, match="smallest") as caught:
        open_scorer(str(bundle_dir), None, 0.001, True)
    smallest = caught.value
    assert "0.0" in str(smallest)


@pytest.mark.parametrize("rows", [[], [Row(id="a", image=b"", label=None)]])
def test_a_table_has_its_columns_even_without_verdicts(bundle_dir: Path, rows: list[Row]) -> None:
    table = write(bundle_dir, rows)
    assert table.num_rows == len(rows)
    assert set(statistics_of(table)) > STATISTICS


def test_each_image_may_have_its_own_alpha(bundle: Bundle) -> None:
    predictor = Predictor(bundle)
    pixels = np.stack([decode(row.image, bundle.spec) for row in inputs(2)[:2]])
    first, second = predictor(pixels, [0.3, None])
    assert (first.alpha, second.alpha) == (0.3, 0.05)
    assert first.threshold > second.threshold
    assert first.p_value == pytest.approx(predictor(pixels)[0].p_value)


def test_an_image_that_cannot_be_scored_is_a_row_with_its_error(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = inputs(4)
    bad = decode(rows[1].image, open_scorer(str(bundle_dir), None, None, True).spec)
    real = Scorer._columns

    def failing(self: Scorer, pixels: Any) -> Any:
        if any(np.array_equal(one, bad) for one in pixels):
            raise RuntimeError("too strange")
        return real(self, pixels)

    whole = write(bundle_dir, rows)
    monkeypatch.setattr(Scorer, "_columns", failing)
    table = write(bundle_dir, rows)
    assert table["error"][1].as_py() == "could not be scored: RuntimeError('too strange')"
    assert table["error"].null_count == 3
    for i in (0, 3, 4):
        found, expected = (t.slice(i, 1).to_pylist()[0] for t in (table, whole))
        assert found["decision"] == expected["decision"]
        assert found["p_value"] == pytest.approx(expected["p_value"])


def test_a_model_that_fails_at_anything_is_not_the_images_fault(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Scorer, pixels: Any) -> Any:
        raise RuntimeError("no device")

    scorer = open_scorer(str(bundle_dir), None, None, True)
    schema = scorer.schema()
    monkeypatch.setattr(Scorer, "_columns", failing)
    (batch,) = batches(inputs(3), scorer.spec, 64)
    with pytest.raises(RuntimeError, match="no device"):
        scorer(batch, schema)
