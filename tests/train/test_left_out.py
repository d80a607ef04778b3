"""Classes left out of training: no row of theirs is read, trained on or held out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from calibration.rows import RowRecord, is_in
from model.checkpoint import CheckpointError, load_model
from model.image import InputSpec
from tests.train.tiny import TINY, assert_same_weights
from train.baselines import load_baseline
from train.cli import configured
from train.config import TrainConfig
from train.data import DataError, ImageRows, Row, open_data
from train.images import load_images
from train.left_out import left_out_of, of_known_classes, without_classes
from train.recipes import RecipeError
from train.run import resume, train_new
from train.run_file import RUN_FILE, read_run

SPEC = InputSpec(shape=(1, 8, 8), levels=17)
KNOWN = ("0", "1", "2", "3", "4", "5", "6", "8")
WITHOUT = replace(TINY, leave_out=("7", "9"), epochs=1)


def rows_of(*labels: int | None) -> ImageRows:
    """A row a label, of the classes a, b, c and d; each is called by its place."""

    def read() -> Iterator[Row]:
        for i, label in enumerate(labels):
            yield Row(id=str(i), image=b"", label=label)

    return ImageRows(spec="here", size=len(labels), class_labels=tuple("abcd"), read=read)


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 3), value, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_rows_of_the_classes_are_dropped_and_the_others_numbered_anew() -> None:
    rows = without_classes(rows_of(3, 0, 1, 2, 1, 3, 0), ("c", "a"))
    assert rows.class_labels == ("b", "d")
    assert [(row.id, row.label) for row in rows] == [("0", 1), ("2", 0), ("4", 0), ("5", 1)]
    assert len(rows) == 4
    assert [row.id for row in rows] == ["0", "2", "4", "5"]
    assert list(rows.labels()) == [1, 0, 0, 1]


def test_rows_without_a_known_label_stay() -> None:
    rows = without_classes(rows_of(None, 1, -1, 0, 4), ("a",))
    assert [(row.id, row.label) for row in rows] == [("0", None), ("1", 0), ("2", -1), ("4", 4)]
    assert len(rows) == 4


def test_no_names_leave_the_rows_as_they_are() -> None:
    rows = rows_of(0, 1)
    assert without_classes(rows, ()) is rows


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("e",), r"here: cannot leave out \['e'\]: expected classes .* \['a', 'b', 'c', 'd'\]"),
        (("a", "A"), r"cannot leave out \['A'\]"),
        (("a", "b", "d"), "1 of its 4 classes would be left, expected 2 at least: leave out fewer"),
    ],
)
def test_what_cannot_be_left_out(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        without_classes(rows_of(0, 1, 2, 3), names)


def test_rows_without_classes_have_none_to_leave_out() -> None:
    rows = replace(rows_of(None), class_labels=None)
    with pytest.raises(DataError, match="has no labels"):
        without_classes(rows, ("a",))


def test_every_kind_of_data(tmp_path: Path) -> None:
    """Labels are counted without reading images where the kind of data allows it."""
    images = [{"bytes": png(value), "path": f"{value}.png"} for value in range(6)]
    table = pa.table({"image": images, "label": [0, 1, 2, 0, None, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    for name in ("cat", "dog", "elk"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        for value in range(2):
            (tmp_path / "folder" / name / f"{value}.png").write_bytes(png(value))
    expected = {
        "x.parquet": ("1", [0, 1, 0, None, 1], [0, 2, 3, 4, 5]),
        "folder": ("dog", [0, 0, 1, 1], [0, 1, 0, 1]),
    }
    for data, (name, labels, values) in expected.items():
        rows = open_data(str(tmp_path / data))
        assert list(rows.labels()) == [row.label for row in rows]
        assert rows.read_labels is not None
        kept = without_classes(rows, (name,))
        assert [row.label for row in kept] == labels
        assert len(kept) == len(values)
        assert [row.image for row in kept] == [png(value) for value in values]
    kept = without_classes(open_data("digits"), ("7", "9"))
    assert kept.class_labels == KNOWN
    assert len(kept) == len(list(kept)) == 1437 - sum(row.label in (7, 9) for row in digits())


def digits() -> list[Row]:
    return list(open_data("digits"))


def test_what_other_data_say_of_it() -> None:
    training = {"config": {"leave_out": ["b", "x"]}}
    rows, said = of_known_classes(rows_of(0, 1, 1, 2, None), training)
    assert said == "left out of training: b: 2 rows of here not used"
    assert [(row.id, row.label) for row in rows] == [("0", 0), ("3", 1), ("4", None)]
    for unchanged in (rows_of(0), replace(rows_of(None), class_labels=None)):
        nothing: dict[str, Any] = {"config": {}}
        assert of_known_classes(unchanged, nothing) == (unchanged, None)
    unlabelled = replace(rows_of(None), class_labels=None)
    assert of_known_classes(unlabelled, training) == (unlabelled, None)


def test_a_run_is_as_if_the_data_had_no_such_classes(tiny_recipe: None, tmp_path: Path) -> None:
    """The rows, split and weights of data that never held them."""
    rows = [row for row in digits() if row.label not in (7, 9)]
    labels = [KNOWN.index(str(row.label)) for row in rows]
    table = pa.table({"image": [{"bytes": row.image} for row in rows], "label": labels})
    names = {b"class_names": json.dumps(KNOWN)}
    pq.write_table(table.replace_schema_metadata(names), tmp_path / "known.parquet")
    train_new(WITHOUT, tmp_path / "out")
    train_new(
        replace(WITHOUT, data=str(tmp_path / "known.parquet"), leave_out=()), tmp_path / "known"
    )
    assert_same_weights(tmp_path / "out", tmp_path / "known")
    run, other = read_run(tmp_path / "out"), read_run(tmp_path / "known")
    for name in ("rows", "architecture", "classes"):
        assert run[name] == other[name]
    assert (left_out_of(run), left_out_of(other)) == (("7", "9"), ())
    assert load_model(tmp_path / "out" / "model").class_labels == KNOWN


def test_no_row_of_theirs_is_recorded(tiny_recipe: None, tmp_path: Path) -> None:
    train_new(WITHOUT, tmp_path / "out", stop_at=1)
    record = RowRecord.from_bytes(
        (tmp_path / "out" / "rows.bin").read_bytes(), read_run(tmp_path / "out")["rows"]
    )
    images = load_images(open_data("digits"), SPEC, tuple("0123456789"), lambda rows, **_: rows)
    left_out = np.isin(images.labels, (7, 9))
    assert not is_in(images.digests[left_out], record.known).any()
    assert is_in(images.digests[~left_out], record.known).all()


def test_a_run_that_goes_on_leaves_them_out_again(tiny_recipe: None, tmp_path: Path) -> None:
    train_new(WITHOUT, tmp_path / "at once")
    assert not train_new(WITHOUT, tmp_path / "twice", stop_at=2).finished
    assert resume(tmp_path / "twice").finished
    assert_same_weights(tmp_path / "at once", tmp_path / "twice")


def test_a_baseline_leaves_them_out_too(tiny_recipe: None, tmp_path: Path) -> None:
    train_new(replace(WITHOUT, kind="resnet"), tmp_path / "out")
    assert load_baseline(tmp_path / "out" / "model").class_labels == KNOWN


def test_a_model_that_knows_them_is_no_beginning(tiny_recipe: None, tmp_path: Path) -> None:
    train_new(replace(TINY, epochs=1), tmp_path / "knows")
    train_new(WITHOUT, tmp_path / "does not")
    config = replace(WITHOUT, init=str(tmp_path / "knows"))
    message = r"knows was trained on \['7', '9'\], which are to be left out: begin with a model"
    with pytest.raises(CheckpointError, match=message):
        train_new(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert train_new(replace(config, init=str(tmp_path / "does not")), tmp_path / "out").finished


def test_settings_of_earlier_versions_leave_nothing_out(tiny_recipe: None, tmp_path: Path) -> None:
    train_new(TINY, tmp_path / "out", stop_at=1)
    run = read_run(tmp_path / "out")
    del run["config"]["leave_out"]
    (tmp_path / "out" / RUN_FILE).write_text(json.dumps(run))
    assert left_out_of(read_run(tmp_path / "out")) == ()
    assert TrainConfig.from_dict(run["config"]) == TINY


def test_a_recipe_takes_them() -> None:
    assert configured("digits", "digits", {"leave_out": ("7",)}).leave_out == ("7",)
    with pytest.raises(RecipeError, match=r"leave_out \['7'\]: expected each class once"):
        configured("digits", "digits", {"leave_out": ("7", "7")})
