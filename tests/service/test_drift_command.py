"""``oodgate drift`` on tables of make-believe models: alarms, what moved, files, refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibration.calibration import Calibration
from calibration.files import save
from calibration.table import floats_of, logits_of, score_table, statistics_of, write_table
from service.verdict_table import VERDICT_FIELDS
from tests.calibration.tables import SIZES, columns_of, fit, rows

Run = Callable[..., tuple[int, str, str]]

#: A budget that a few hundred rows can answer to.
BUDGET = ("--days", 1, "--rate", 0.1)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(rows())


@pytest.fixture(scope="module")
def bundle(calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of a bundle's folder as the command reads."""
    folder = tmp_path_factory.mktemp("bundle")
    save(calibration, folder / "calibration")
    (folder / "manifest.json").write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    return folder


def version_of(bundle: Path) -> str:
    return (bundle / "manifest.sha256").read_text()[:12]


def scored(calibration: Calibration, seed: int, shift: float = 0.0, **changes: Any) -> pa.Table:
    """A verdict table of 800 rows, of which the last 500 are shifted."""
    columns = columns_of(np.random.default_rng(seed), 800)
    moved = np.where(np.arange(800) < 300, 0, shift)
    columns["log_prob"] = columns["log_prob"] - moved
    columns["statistics"]["log_det"] = columns["statistics"]["log_det"] + moved
    table = score_table(**columns)
    scores = calibration.scores(
        logits_of(table), floats_of(table, "log_prob"), statistics_of(table)
    )
    values = {"score": scores, "model_version": [changes.pop("version", None)] * 800} | changes
    for field in VERDICT_FIELDS:
        if field.name in values:
            table = table.append_column(field, pa.array(values[field.name], field.type))
    return table


@pytest.fixture
def clean(calibration: Calibration, tmp_path: Path) -> Path:
    write_table(scored(calibration, 5), tmp_path / "clean.parquet")
    return tmp_path / "clean.parquet"


@pytest.fixture
def strange(calibration: Calibration, tmp_path: Path) -> Path:
    write_table(scored(calibration, 6, shift=4), tmp_path / "strange.parquet")
    return tmp_path / "strange.parquet"


def found(oodgate: Run, *words: object) -> dict[str, Any]:
    code, out, _ = oodgate("drift", *words, "--json")
    assert code == 0
    return dict(json.loads(out))


def test_an_alarm_is_an_answer(oodgate: Run, clean: Path, strange: Path) -> None:
    code, out, err = oodgate("drift", clean, strange, *BUDGET)
    assert (code, err) == (0, "")
    assert "ALARM on score at row 3" in out
    assert "(one false alarm in 1 days at 0.1 images/s: threshold 9.06)" in out
    data = found(oodgate, clean, strange, *BUDGET)
    test = data["test"]
    assert test["alarmed"] is True
    assert 300 <= test["alarm_row"] < 330
    assert test["alarm_id"] == f"{test['alarm_row']}.png"
    assert test["highest_score"] >= test["threshold"]
    assert test["budget"]["images"] == 8640
    assert data["stream"] == {"path": str(strange), "rows": 800, "rows_with_error": 0}


def test_clean_traffic_gives_none(oodgate: Run, bundle: Path, clean: Path) -> None:
    code, out, _ = oodgate("drift", bundle, clean, *BUDGET)
    assert code == 0
    assert "no alarm on score: at most " in out
    data = found(oodgate, bundle, clean, *BUDGET)
    assert data["test"] | {"alarmed": False, "alarm_row": None} == data["test"]
    assert max(one["effect"] for one in data["moved"]) < 2.5


def test_what_moved_most(oodgate: Run, clean: Path, strange: Path) -> None:
    data = found(oodgate, clean, strange)
    names = [one["name"] for one in data["moved"]]
    assert set(names[:3]) == {"log_prob", "log_det", "score"}
    assert set(names) == {*names[:3], "entropy", "margin", "input_tv", "predicted_class"}
    effects = [one["effect"] for one in data["moved"]]
    assert effects == sorted(effects, reverse=True)
    _, out, _ = oodgate("drift", clean, strange, "--top", 2)
    assert len(out.rstrip().partition("median in A -> B\n")[2].splitlines()) == 2


def test_a_window_is_the_last_rows(oodgate: Run, clean: Path, strange: Path) -> None:
    whole, last = found(oodgate, clean, strange), found(oodgate, clean, strange, "--window", 500)
    assert (whole["window_rows"], last["window_rows"]) == (800, 500)
    assert last["moved"][0]["distance"] > whole["moved"][0]["distance"]
    assert last["test"] == whole["test"]


def test_a_bundle_stands_for_its_calibration_rows(
    oodgate: Run, bundle: Path, strange: Path, calibration: Calibration
) -> None:
    data = found(oodgate, bundle, strange, *BUDGET)
    assert data["reference"]["rows"] == SIZES["cal"]
    by_file = found(oodgate, bundle / "calibration" / "reference.parquet", strange, *BUDGET)
    assert by_file == data
    # the same scores, whether a table brings them or they are computed
    bare = strange.with_name("bare.parquet")
    write_table(pq.read_table(strange).drop_columns(["score"]), bare)
    assert found(oodgate, bundle, bare, *BUDGET)["test"] == data["test"]


def test_another_statistic(oodgate: Run, clean: Path, strange: Path) -> None:
    for name in ("log_det", "stat_log_det"):
        data = found(oodgate, clean, strange, *BUDGET, "--on", name)
        assert data["test"]["on"] == "log_det"
        assert data["test"]["alarmed"]
    assert not found(oodgate, clean, strange, *BUDGET, "--on", "input_tv")["test"]["alarmed"]


def test_rows_with_an_error_are_left_out_and_counted_on(
    oodgate: Run, clean: Path, strange: Path
) -> None:
    table = pq.read_table(strange)
    broken = pa.concat_tables([table.slice(0, 10), table])
    errors = pa.array(["no image"] * 10 + [None] * 800, pa.string())
    place = broken.column_names.index("error")
    write_table(broken.set_column(place, "error", errors), strange.with_name("broken.parquet"))
    data = found(oodgate, clean, strange.with_name("broken.parquet"), *BUDGET)
    expected = found(oodgate, clean, strange, *BUDGET)
    assert data["stream"]["rows_with_error"] == 10
    assert data["test"]["alarm_row"] == expected["test"]["alarm_row"] + 10
    assert data["test"]["alarm_id"] == expected["test"]["alarm_id"]


def test_a_score_that_is_no_number_is_strange(
    oodgate: Run, calibration: Calibration, clean: Path
) -> None:
    path = clean.with_name("nan.parquet")
    write_table(scored(calibration, 7, score=np.full(800, np.nan)), path)
    data = found(oodgate, clean, path, *BUDGET)
    assert data["test"]["alarm_row"] < 20
    score = next(one for one in data["moved"] if one["name"] == "score")
    assert score["after"] is None
    code, _, err = oodgate("drift", path, clean)
    assert code == 2
    assert "found 800 of 800 rows that are no finite numbers" in err


def test_a_folder_of_parts(oodgate: Run, clean: Path, strange: Path) -> None:
    folder, table = strange.with_name("out"), pq.read_table(strange)
    folder.mkdir()
    write_table(table.slice(500), folder / "part-00001.parquet")
    write_table(table.slice(0, 500), folder / "part-00000.parquet")
    (folder / "_part-00002.parquet").write_bytes(b"unfinished")
    whole, parts = found(oodgate, clean, strange), found(oodgate, clean, folder)
    assert parts["test"] == whole["test"]


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figure(oodgate: Run, clean: Path, strange: Path, kind: str, start: bytes) -> None:
    path = strange.with_name(f"drift.{kind}")
    code, _, _ = oodgate("drift", clean, strange, *BUDGET, "--figure", path)
    assert code == 0
    first = path.read_bytes()
    assert first.startswith(start)
    oodgate("drift", clean, strange, *BUDGET, "--figure", path)
    assert path.read_bytes() == first


def refused(oodgate: Run, *words: object) -> str:
    code, _, err = oodgate("drift", *words)
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    return err


def test_scores_of_two_bundles_do_not_compare(
    oodgate: Run, bundle: Path, calibration: Calibration, tmp_path: Path
) -> None:
    path = tmp_path / "versioned.parquet"
    write_table(scored(calibration, 5, version=version_of(bundle)), path)
    assert found(oodgate, bundle, path)["stream"]["rows"] == 800
    write_table(scored(calibration, 5, version="0123456789ab"), path)
    err = refused(oodgate, bundle, path)
    assert f"model_version: found 0123456789ab, {version_of(bundle)}" in err


def test_a_table_without_scores(oodgate: Run, clean: Path) -> None:
    """As a checkpoint that was never calibrated gives it."""
    bare, empty = clean.with_name("bare.parquet"), clean.with_name("null.parquet")
    table = pq.read_table(clean)
    write_table(table.drop_columns(["score"]), bare)
    null = pa.nulls(table.num_rows, pa.float64())
    write_table(table.set_column(table.column_names.index("score"), "score", null), empty)
    for path in (bare, empty):
        err = refused(oodgate, clean, path)
        assert f"column score of {path}: found none with numbers" in err
        assert "give the bundle's folder as A, or look at another by --on: log_prob, entropy" in err
    assert not found(oodgate, clean, bare, "--on", "log_prob")["test"]["alarmed"]


def test_what_a_user_can_mend(oodgate: Run, clean: Path, tmp_path: Path) -> None:
    assert "expected .png or .svg" in refused(oodgate, clean, clean, "--figure", "a.pdf")
    assert "days 0.0: expected" in refused(oodgate, clean, clean, "--days", 0)
    assert "expected at least 100" in refused(oodgate, clean, clean, "--days", 1e-9)
    assert "column nope of" in refused(oodgate, clean, clean, "--on", "nope")
    assert "found type string" in refused(oodgate, clean, clean, "--on", "id")
    assert "No such file" in refused(oodgate, clean, tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "found no .parquet file" in refused(oodgate, clean, empty)
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    assert "junk.parquet: not a readable Parquet" in refused(
        oodgate, clean, tmp_path / "junk.parquet"
    )
    write_table(pq.read_table(clean).slice(0, 0), tmp_path / "none.parquet")
    assert "found no row without an error" in refused(oodgate, clean, tmp_path / "none.parquet")


def test_without_matplotlib(oodgate: Run, clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    err = refused(oodgate, clean, clean, "--figure", clean.with_name("a.png"))
    assert 'pip install "oodgate[figures]"' in err


def test_help(oodgate: Run) -> None:
    code, out, _ = oodgate("drift", "--help")
    assert code == 0
    assert "oodgate drift" in out
    assert "An alarm is an answer and no error" in " ".join(out.split())
