"""The score table: what goes in comes out, and what does not fit is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibration.table import (
    SCORE_SCHEMA,
    TableError,
    check_table,
    labels_of,
    logits_of,
    read_table,
    score_table,
    statistics_of,
    table_to_bytes,
    write_table,
)

LOGITS = np.array([[1.5, -2.0, 0.25], [1e4, 0.0, -1e4], [np.nan, np.nan, np.nan]])


def table(**changes: Any) -> pa.Table:
    """Three rows of three classes: labelled, unlabelled, and one with an error."""
    columns: dict[str, Any] = {
        "ids": ["a", "b", "c"],
        "labels": [2, None, None],
        "splits": ["fit", "cal", None],
        "logits": LOGITS,
        "log_prob": [2070.6, -3.25, np.nan],
        "statistics": {"log_det": [1.0, 2.0, np.nan], "margin": [0.5, -np.pi, np.nan]},
        "errors": [None, None, "not an image"],
    }
    return score_table(**(columns | changes))


def test_columns_and_types() -> None:
    assert table().schema.names == [*SCORE_SCHEMA.names, "stat_log_det", "stat_margin"]
    for field in SCORE_SCHEMA:
        assert table().schema.field(field.name) == field
    assert table().schema.field("stat_margin").type == pa.float64()
    check_table(table())


def test_arrays_come_back() -> None:
    assert logits_of(table()).dtype == np.float64
    assert np.array_equal(logits_of(table()), LOGITS, equal_nan=True)
    assert np.array_equal(statistics_of(table())["margin"], [0.5, -np.pi, np.nan], equal_nan=True)
    assert list(statistics_of(table())) == ["log_det", "margin"]
    labels, known = labels_of(table())
    assert labels.tolist() == [2, -1, -1]
    assert known.tolist() == [True, False, False]


def test_what_is_unknown_may_be_left_out() -> None:
    blank = table(labels=None, splits=None, errors=None)
    assert [blank.column(name).null_count for name in ("label", "split", "error")] == [3, 3, 3]


def test_no_rows_are_a_table_too() -> None:
    empty = score_table(
        ids=[], labels=[], splits=[], logits=np.zeros((0, 3)), log_prob=[], statistics={}
    )
    check_table(empty)
    assert logits_of(empty).shape == (0, 0)


def test_a_file_gives_the_table_back(tmp_path: Path) -> None:
    write_table(table(), tmp_path / "scores.parquet")
    back = read_table(tmp_path / "scores.parquet")
    assert back.schema.equals(table().schema, check_metadata=True)
    assert table_to_bytes(back) == table_to_bytes(table())
    assert pq.read_schema(tmp_path / "scores.parquet").metadata[b"oodgate.score_table"] == b"1"


def test_bytes_depend_on_content_alone() -> None:
    pieces = pa.concat_tables([table().slice(0, 1), table().slice(1)])
    labelled = pieces.replace_schema_metadata({"pandas": "whatever"})
    assert pieces.column("id").num_chunks == 2
    assert table_to_bytes(labelled) == table_to_bytes(table())


def test_a_verdict_table_keeps_its_other_columns(tmp_path: Path) -> None:
    wide = table().append_column("p_value", pa.array([0.5, 0.1, None]))
    write_table(wide, tmp_path / "verdicts.parquet")
    assert read_table(tmp_path / "verdicts.parquet").column("p_value").to_pylist() == [
        0.5,
        0.1,
        None,
    ]


def test_a_stranger_may_have_infinite_scores_in_a_file_but_not_in_a_reference(
    tmp_path: Path,
) -> None:
    odd = table(log_prob=[-np.inf, 0.0, 0.0])
    write_table(odd, tmp_path / "odd.parquet")
    with pytest.raises(
        TableError, match=r"column log_prob, row 0 \(id 'a'\): found -inf, expected"
    ):
        check_table(read_table(tmp_path / "odd.parquet"))


def test_a_writer_that_drops_metadata_is_read_by_its_columns(tmp_path: Path) -> None:
    pq.write_table(table().replace_schema_metadata(None), tmp_path / "bare.parquet")
    assert table_to_bytes(read_table(tmp_path / "bare.parquet")) == table_to_bytes(table())


def replaced(name: str, values: pa.Array) -> pa.Table:
    source = table()
    return source.set_column(source.column_names.index(name), name, values)


FAULTS: list[tuple[Callable[[], pa.Table], str]] = [
    (
        lambda: table().drop_columns(["log_prob"]),
        r"column log_prob: found only id, label, .* double",
    ),
    (
        lambda: table().append_column("label", pa.array([0, 0, 0])),
        r"column label: found 2 columns, expected one of type int64",
    ),
    (
        lambda: replaced("log_prob", pa.array([1, 2, 3])),
        r"column log_prob: found type int64, expected double",
    ),
    (
        lambda: replaced("stat_margin", pa.array(["x", "y", "z"])),
        r"column stat_margin: found type string, expected double",
    ),
    (
        lambda: replaced("logits", pa.array([[1, 2, 3], [1, 2], None], pa.list_(pa.float32()))),
        r"column logits, row 1 \(id 'b'\): found 2 values, expected 3 as in other rows",
    ),
    (
        lambda: replaced("logits", pa.array([[1, 2, 3], None, None], pa.list_(pa.float32()))),
        r"column logits, row 1 \(id 'b'\): found \[nan nan nan\], expected finite numbers",
    ),
    (
        lambda: table(log_prob=[0.0, np.nan, np.nan]),
        r"column log_prob, row 1 \(id 'b'\): found nan, expected finite numbers; leave the row out",
    ),
    (
        lambda: table(statistics={"margin": [np.inf, 0, 0]}),
        r"column stat_margin, row 0 \(id 'a'\): found inf, expected finite numbers",
    ),
    (
        lambda: table(labels=[3, None, None]),
        r"column label, row 0 \(id 'a'\): found 3, expected null or a class in \[0, 3\)",
    ),
    (lambda: table(labels=[0, -1, None]), r"column label, row 1 \(id 'b'\): found -1, expected"),
    (
        lambda: table(splits=["fit", "test", None]),
        r"column split: found \['test'\], expected train, fit, cal",
    ),
]


@pytest.mark.parametrize(("faulty", "text"), FAULTS)
def test_a_faulty_table_is_refused_by_column(faulty: Callable[[], pa.Table], text: str) -> None:
    with pytest.raises(TableError, match=text):
        check_table(faulty())


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(TableError, match="column label: found 2 rows, expected 3"):
        table(labels=[1, 2])
    with pytest.raises(TableError, match="column stat_x: found 1 rows, expected 3"):
        table(statistics={"x": [0.0]})
    with pytest.raises(
        TableError, match=r"column logits: found shape \(3,\), expected \(rows, cla"
    ):
        table(logits=[1.0, 2.0, 3.0])


def test_another_schema_version_is_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "future.parquet"
    pq.write_table(table().replace_schema_metadata({"oodgate.score_table": "2"}), path)
    with pytest.raises(TableError, match=r"future.parquet: schema version: found 2, expected 1"):
        read_table(path)


def test_what_is_no_parquet_is_refused_by_file(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("id,label\n")
    with pytest.raises(TableError, match=r"text.parquet: not a readable Parquet file"):
        read_table(tmp_path / "text.parquet")
