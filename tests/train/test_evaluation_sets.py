"""What is held against what: classes left out, strangers by name, rows that were seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.image import InputSpec
from tests.train.test_strangers import drawings, encoded, write_parquet
from train.data import DataError, ImageRows, open_data
from train.evaluation.sets import (
    LEFT_OUT,
    OTHER,
    THIRTEEN,
    StrangeRows,
    distinct,
    limited,
    load_unseen,
    short_name,
    split_known,
    strange_rows,
)
from train.images import load_images
from train.strangers import NAMES

SPEC = InputSpec(shape=(1, 8, 8), levels=17)
DIGITS = tuple("0123456789")
PLAIN: dict[str, Any] = {"config": {}}
NO_ROWS = np.empty((0, 32), np.uint8)


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """The sets that far13 takes from elsewhere, for grey data."""
    root = tmp_path / "sets"
    write_parquet(root / "mnist/test.parquet", [encoded(x) for x in drawings(5, 28, 28, seed=1)])
    photos = [encoded(x) for x in drawings(5, 32, 32, 3, seed=2)]
    write_parquet(root / "cifar10/test.parquet", photos)
    return root


def labels(rows: ImageRows) -> list[int | None]:
    return [row.label for row in rows]


def count(*digits: int) -> int:
    return sum(label in digits for label in labels(open_data("digits:test")))


def test_classes_left_out_of_training_are_taken_by_default() -> None:
    training = {"config": {"leave_out": ["3", "8"]}}
    classes = [digit for digit in DIGITS if digit not in "38"]
    known, strange = split_known(open_data("digits:test"), (), training, classes)
    assert known.class_labels == tuple(classes)
    assert len(known) == 360 - count(3, 8)
    assert [found.name for found in strange] == ["class 3", "class 8"]
    for found, digit in zip(strange, (3, 8), strict=True):
        assert found.group == LEFT_OUT
        assert len(found.rows) == count(digit)
        assert labels(found.rows) == [None] * count(digit)


def test_one_of_the_classes_left_out() -> None:
    """The other one leaves the known rows all the same: the model does not know it."""
    training = {"config": {"leave_out": ["3", "8"]}}
    classes = [digit for digit in DIGITS if digit not in "38"]
    known, strange = split_known(open_data("digits:test"), ("8", "8"), training, classes)
    assert [found.name for found in strange] == ["class 8"]
    assert known.class_labels == tuple(classes)


def test_a_class_that_the_model_knows() -> None:
    with pytest.raises(DataError, match="oodgate train --leave-out '3'"):
        split_known(open_data("digits:test"), ("3",), PLAIN, DIGITS)


def test_a_class_that_the_rows_do_not_have() -> None:
    with pytest.raises(DataError, match=r"cannot leave out \['ten'\]"):
        split_known(open_data("digits:test"), ("ten",), PLAIN, DIGITS)


def test_nothing_left_out() -> None:
    rows = open_data("digits:test")
    assert split_known(rows, (), PLAIN, DIGITS) == (rows, [])


def test_far13_is_thirteen_sets(others: Path) -> None:
    specs = ("digits:test", "far13:digits:test", "digits:test")
    found = strange_rows(specs, others, PLAIN)
    assert [strange.name for strange in found] == ["digits:test", *NAMES]
    assert [strange.group for strange in found] == [OTHER] + [THIRTEEN] * 13
    assert {strange.data for strange in found[1:]} == {"far13:digits:test"}
    assert not any(strange.excluded for strange in found)


def test_what_training_made_is_excluded(others: Path) -> None:
    found = strange_rows(("far13:digits:test",), others, {"config": {"shift": 2}})
    excluded = [strange.name for strange in found if strange.excluded]
    assert excluded == ["shift-2"]
    assert "own training augmentation" in str(found[-1].excluded)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("digits:test", "digits:test"),
        ("/sets/mnist/test.parquet", "mnist/test"),
        ("mnist/test", "mnist/test"),
        ("test.parquet", "test.parquet"),
        ("s3://bucket/a/b.parquet", "a/b"),
        ("/", "/"),
    ],
)
def test_short_names(spec: str, name: str) -> None:
    assert short_name(spec) == name


def test_names_that_two_sets_share() -> None:
    def strange(name: str, data: str) -> StrangeRows:
        return StrangeRows(name=name, data=data, group=OTHER, rows=open_data("digits:test"))

    found = distinct([strange("a", "x/a"), strange("b", "x/b"), strange("a", "y/a")])
    assert [one.name for one in found] == ["a (x/a)", "b", "a (y/a)"]


def test_a_limit_draws_rows_in_their_order() -> None:
    rows = open_data("digits:test")
    some = limited(rows, 20)
    ids = [row.id for row in some]
    everything = [row.id for row in rows]
    assert len(some) == len(ids) == len(set(ids)) == 20
    assert ids == [name for name in everything if name in ids] != everything[:20]
    assert labels(some) == list(some.labels())
    assert limited(rows, None) is limited(rows, 360) is rows


def test_rows_that_were_seen_are_refused() -> None:
    rows = open_data("digits:test")
    everything = load_images(rows, SPEC, DIGITS, lambda rows, **_: rows)
    seen = everything.digests[:7]
    found = load_unseen(rows, SPEC, DIGITS, seen)
    assert found.refused == 7
    assert found.images.ids == everything.ids[7:]
    with pytest.raises(DataError, match="all 360 rows were trained, fitted or calibrated on"):
        load_unseen(rows, SPEC, DIGITS, everything.digests)


def test_no_rows_at_all() -> None:
    nothing = ImageRows(spec="nothing", size=0, class_labels=None, read=lambda: iter(()))
    with pytest.raises(DataError, match="nothing: found no rows"):
        load_unseen(nothing, SPEC, None, NO_ROWS)
