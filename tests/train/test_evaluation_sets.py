"""What is held against what: classes left out, strangers by name, rows that were seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.image import InputSpec, decode
from tests.train.test_strangers import drawings, encoded, write_parquet
from train.data import DataError, ImageRows, open_data
from train.evaluation.sets import (
    LEFT_OUT,
    MOST_SEEN,
    OTHER,
    THIRTEEN,
    StrangeRows,
    distinct,
    limited,
    load_unseen,
    open_sets,
    short_name,
    split_known,
    stored_as_known,
    strange_rows,
    with_bases_checked,
)
from train.images import load_images
from train.strangers import CHANGED, NAMES, encoding_of, stored_like

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


def folder(path: Path, count: int, *shape: int, suffix: str = "jpg", **options: Any) -> ImageRows:
    """Images in files, smooth and so nearly kept by JPEG."""
    path.mkdir()
    for i, image in enumerate(drawings(count, *shape, seed=len(path.name))):
        (path / f"{i}.{suffix}").write_bytes(encoded(image, **options))
    return open_data(str(path))


def other(rows: ImageRows) -> StrangeRows:
    return StrangeRows(name="odd", data="odd", group=OTHER, rows=rows)


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


def test_a_single_known_class_beside_one_left_out(tmp_path: Path) -> None:
    """A classifier of one class would be none; rows to hold against it may be of one."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(encoded(np.full((3, 3), 9, np.uint8)))
    rows = open_data(str(tmp_path))
    known, strange = split_known(rows, ("b",), PLAIN, ("a", "c"))
    assert (known.class_labels, len(known)) == (("a",), 1)
    assert [found.name for found in strange] == ["class b"]
    with pytest.raises(DataError, match="0 of its 2 classes would be left, expected 1 at least"):
        split_known(rows, ("a", "b"), PLAIN, ("c",))


def test_strangers_are_stored_as_known_images_are(tmp_path: Path) -> None:
    """Known in JPEG: what the model sees of PNG in colour is of a round trip in that JPEG."""
    jpeg: dict[str, Any] = {"format": "JPEG", "quality": 20}
    folder(tmp_path / "known", 3, 16, 12, **jpeg)
    theirs = folder(tmp_path / "strange", 4, 30, 30, 3, suffix="png")
    _, (strange,) = open_sets(
        str(tmp_path / "known"), [str(tmp_path / "strange")], (), None, PLAIN, ()
    )
    assert strange.note == "stored as the first known image is, JPEG of 12 x 16 pixels"
    spec = InputSpec(shape=(1, 8, 8))
    found = load_unseen(strange.rows, spec, None, NO_ROWS, strange.encoding).images
    plain = load_images(theirs, spec, None, lambda rows, **_: rows)
    for i, row in enumerate(theirs):
        small = decode(row.image, InputSpec(shape=(1, 16, 12)))[0]
        assert np.array_equal(found.pixels[i], decode(encoded(small, **jpeg), spec))
    assert not np.array_equal(found.pixels, plain.pixels)
    assert np.array_equal(found.digests, plain.digests)  # copies are recognised as they came


def test_what_is_stored_alike_stays(tmp_path: Path) -> None:
    jpeg: dict[str, Any] = {"format": "JPEG", "quality": 20}
    known = folder(tmp_path / "known", 3, 16, 12, **jpeg)
    same = folder(tmp_path / "same", 4, 16, 12, **jpeg)
    finer = folder(tmp_path / "finer", 4, 16, 12, format="JPEG", quality=90)
    encoding = encoding_of(known)
    assert [row.image for row in stored_like(same, encoding)] == [row.image for row in same]
    for before, after in zip(finer, stored_like(finer, encoding), strict=True):
        assert before.image != after.image
        assert before.id == after.id


def test_known_images_without_loss_leave_strangers_alone(tmp_path: Path) -> None:
    """Through the size of the known images they would be resized twice."""
    strange = [other(folder(tmp_path / "strange", 2, 30, 30, format="JPEG"))]
    known = folder(tmp_path / "known", 2, 16, 12, suffix="png")
    assert stored_as_known(strange, known) == strange


@pytest.mark.parametrize(
    ("shape", "options", "why"),
    [
        ((9, 9), {"format": "JPEG"}, "their sizes, colours or formats vary"),
        ((16, 12, 3), {"format": "JPEG"}, "their sizes, colours or formats vary"),
        ((16, 12), {"format": "PNG"}, "their sizes, colours or formats vary"),
    ],
)
def test_known_images_that_vary(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], why: str
) -> None:
    folder(tmp_path / "known", 2, 16, 12, format="JPEG")
    (tmp_path / "known" / "2.jpg").write_bytes(encoded(drawings(1, *shape, seed=0)[0], **options))
    strange = other(folder(tmp_path / "strange", 2, 30, 30, suffix="png"))
    (found,) = stored_as_known([strange], open_data(str(tmp_path / "known")))
    assert found.encoding is None
    assert found.note == f"not stored as the known images are: {why}"


def test_known_images_whose_loss_cannot_be_repeated(tmp_path: Path) -> None:
    known = folder(tmp_path / "known", 2, 16, 12, suffix="webp", format="WEBP")
    (found,) = stored_as_known([other(known)], known)
    assert found.encoding is None
    assert found.note is not None
    assert "is WEBP, whose loss cannot be repeated" in found.note


def test_turned_images_are_of_the_size_that_is_seen(tmp_path: Path) -> None:
    """EXIF orientation 6 swaps width and height."""
    exif = Image.Exif()
    exif[0x0112] = 6
    known = folder(tmp_path / "known", 2, 16, 12, format="JPEG", exif=exif)
    assert encoding_of(known).shape == (1, 12, 16)


def test_far13_of_images_that_were_seen(others: Path) -> None:
    found = strange_rows(("far13:digits:test",), others, PLAIN)
    assert [one.name for one in found if one.base is not None] == list(CHANGED)
    digests = load_images(open_data("digits:test"), SPEC, DIGITS, lambda rows, **_: rows).digests
    most = int(MOST_SEEN * 360)
    assert with_bases_checked(found, SPEC, NO_ROWS) == found
    noted = with_bases_checked(found, SPEC, digests[:most])
    said = f"{most} of the 360 images that far13 is made from were trained, fitted or calibrated on"
    assert {one.note for one in noted if one.name in CHANGED} == {said}
    assert {one.note for one in noted if one.name not in CHANGED} == {None}
    with pytest.raises(DataError, match=f"{most + 1} of the 360 images .*: name the test split"):
        with_bases_checked(found, SPEC, digests[: most + 1])
