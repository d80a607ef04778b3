"""Which rows may calibrate a model, and the record that decides it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calibration.errors import CalibrationError
from calibration.rows import PARTS, Digests, RowRecord, RowsError, content_digests, is_in
from calibration.selection import select_rows


def digests(count: int, seed: int) -> Digests:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


TRAIN, FIT, CAL, OTHER = digests(70, 0), digests(10, 1), digests(20, 2), digests(40, 3)
RECORD = RowRecord(train=TRAIN, fit=FIT, cal=CAL)


def shuffled(*parts: Digests) -> Digests:
    rows = np.concatenate(parts)
    return rows[np.random.default_rng(9).permutation(len(rows))]


def as_set(rows: Digests) -> set[bytes]:
    return {row.tobytes() for row in rows}


def test_training_data_gives_exactly_the_rows_held_out() -> None:
    data = shuffled(TRAIN, FIT, CAL)
    found = select_rows(data, RECORD)
    assert found.held_out
    assert as_set(data[found.fit]) == as_set(FIT)
    assert as_set(data[found.cal]) == as_set(CAL)
    assert (np.diff(found.fit) > 0).all()
    assert (np.diff(found.cal) > 0).all()


def test_training_data_with_more_beside_it_still_gives_those() -> None:
    data = shuffled(TRAIN, FIT, CAL, OTHER)
    found = select_rows(data, RECORD)
    assert found.held_out
    assert as_set(data[found.cal]) == as_set(CAL)


def test_of_other_data_every_row_is_used() -> None:
    found = select_rows(OTHER, RECORD)
    assert not found.held_out
    assert found.trained_on == 0
    np.testing.assert_array_equal(np.sort(np.concatenate([found.fit, found.cal])), np.arange(40))
    assert len(found.fit) == len(found.cal) == 20


def test_a_mixture_leaves_out_what_was_trained_on_and_says_how_much() -> None:
    data = shuffled(OTHER, TRAIN[:15], CAL[:3])
    found = select_rows(data, RECORD)
    assert not found.held_out
    assert found.trained_on == 15
    used = np.concatenate([found.fit, found.cal])
    assert as_set(data[used]) == as_set(OTHER) | as_set(CAL[:3])


def test_rows_of_an_earlier_calibration_do_not_shadow_new_ones() -> None:
    """A user's growing set holds every row that calibrated before: still all of it is used."""
    record = RowRecord(train=TRAIN, fit=OTHER[:10], cal=OTHER[10:20])
    found = select_rows(OTHER, record)
    assert not found.held_out
    assert len(found.fit) + len(found.cal) == 40


def test_rows_behind_what_a_calibration_borrows_are_kept() -> None:
    first = RECORD.recalibrated(OTHER[:5], OTHER[5:10], borrowed=True)
    second = first.recalibrated(OTHER[10:15], OTHER[15:20], borrowed=True)
    for record in (first, second):
        assert as_set(record.kept) == as_set(FIT) | as_set(CAL)
        assert record.counts() == {"train": 70, "fit": 5, "cal": 5, "kept": 30}
        assert record.found_among(FIT) == {**dict.fromkeys(PARTS, 0), "kept": 10, "new": 0}
    assert not is_in(OTHER[:10], second.known).any()  # they gave p-values, which are replaced
    labelled = second.recalibrated(OTHER[20:30], OTHER[30:], borrowed=False)
    assert not is_in(np.concatenate([FIT, CAL]), labelled.known).any()
    assert labelled.counts() == {"train": 70, "fit": 10, "cal": 10}


def test_kept_rows_may_calibrate_again() -> None:
    """The model was not trained on them; they are no sign of its training data by themselves."""
    record = RECORD.recalibrated(OTHER[:20], OTHER[20:], borrowed=True)
    for data in (shuffled(TRAIN, FIT, CAL), shuffled(TRAIN, OTHER)):
        found = select_rows(data, record)
        assert not found.held_out
        assert found.trained_on == 70
        assert len(found.fit) + len(found.cal) == len(data) - 70
    assert select_rows(shuffled(TRAIN, FIT, CAL, OTHER), record).held_out


def test_rows_of_an_ancestor_are_trained_on_too() -> None:
    record = RECORD.descended(np.concatenate([OTHER[:30], TRAIN[:5]]))
    assert record.counts() == {**RECORD.counts(), "ancestor": 30}
    assert as_set(record.trained_on) == as_set(TRAIN) | as_set(OTHER[:30])
    found = select_rows(OTHER, record)
    assert (found.held_out, found.trained_on) == (False, 30)
    assert as_set(OTHER[np.concatenate([found.fit, found.cal])]) == as_set(OTHER[30:])
    assert record.found_among(OTHER) == {**dict.fromkeys(PARTS, 0), "ancestor": 30, "new": 10}
    assert record.own.to_bytes() == RECORD.to_bytes()


def test_the_training_data_is_known_without_the_ancestor_s() -> None:
    found = select_rows(shuffled(TRAIN, FIT, CAL), RECORD.descended(OTHER))
    assert (found.held_out, len(found.fit), len(found.cal)) == (True, len(FIT), len(CAL))


def test_only_rows_that_were_trained_on() -> None:
    with pytest.raises(CalibrationError, match="all 30 rows were trained on"):
        select_rows(TRAIN[:30], RECORD)


def test_equal_images_fall_into_the_same_half() -> None:
    data = shuffled(OTHER, OTHER, OTHER[:5])
    found = select_rows(data, RECORD)
    assert not as_set(data[found.fit]) & as_set(data[found.cal])
    assert len(found.fit) + len(found.cal) == 85


def test_a_seed_decides() -> None:
    first, again, other = (select_rows(OTHER, RECORD, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.cal, again.cal)
    assert not np.array_equal(first.cal, other.cal)


@pytest.mark.parametrize("count", [0, 1])
def test_next_to_nothing(count: int) -> None:
    if count:
        found = select_rows(OTHER[:count], RECORD)
        assert (len(found.fit), len(found.cal)) == (0, 1)
    else:
        with pytest.raises(CalibrationError, match="no rows"):
            select_rows(OTHER[:count], RECORD)


def test_a_record_survives_its_bytes() -> None:
    found = RowRecord.from_bytes(RECORD.to_bytes(), RECORD.counts())
    assert found.counts() == {"train": 70, "fit": 10, "cal": 20}
    np.testing.assert_array_equal(found.train, TRAIN)
    np.testing.assert_array_equal(found.fit, FIT)
    np.testing.assert_array_equal(found.cal, CAL)
    assert len(found.kept) == 0


def test_kept_rows_survive_the_bytes() -> None:
    record = RowRecord(train=TRAIN, fit=OTHER[:5], cal=OTHER[5:], kept=CAL)
    found = RowRecord.from_bytes(record.to_bytes(), record.counts())
    assert found.counts() == record.counts()
    np.testing.assert_array_equal(found.cal, OTHER[5:])
    np.testing.assert_array_equal(found.kept, CAL)


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (RECORD.to_bytes()[:-1], RECORD.counts()),
        (RECORD.to_bytes(), RECORD.counts() | {"train": 71}),
        (RECORD.to_bytes(), {"train": 100}),
        (RECORD.to_bytes(), {"train": 130, "fit": -30, "cal": 0}),
        (RECORD.to_bytes(), RECORD.counts() | {"kept": 1}),
        (RECORD.to_bytes(), RECORD.counts() | {"other": 0}),
        (RECORD.to_bytes(), {"train": 70, "fit": 10, "kept": 20}),
        (RECORD.to_bytes(), RECORD.counts() | {"train": "70"}),
        (RECORD.to_bytes(), RECORD.counts() | {"train": None}),
        (RECORD.to_bytes(), RECORD.counts() | {"train": 70.0}),
    ],
)
def test_a_record_that_does_not_fit_its_counts(content: bytes, counts: dict[str, Any]) -> None:
    with pytest.raises(RowsError, match="row hashes"):
        RowRecord.from_bytes(content, counts)


def test_what_a_model_cannot_tell_apart_has_one_digest() -> None:
    """A digit written by truncation instead of rounding is the same digit to 17 levels."""
    levels = np.arange(17, dtype=np.float64).reshape(1, 1, 1, 17) * 255 / 16
    rounded, cut = np.rint(levels).astype(np.uint8), levels.astype(np.uint8)
    assert not np.array_equal(rounded, cut)
    np.testing.assert_array_equal(content_digests(rounded, 17), content_digests(cut, 17))
    assert not np.array_equal(content_digests(rounded, 256), content_digests(cut, 256))


def test_content_digests_are_of_shape_and_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 2, 4), dtype=np.uint8)
    found = content_digests(images, 256)
    assert found.shape == (3, 32)
    np.testing.assert_array_equal(content_digests(images[1:2], 256)[0], found[1])
    np.testing.assert_array_equal(content_digests(np.asfortranarray(images), 256), found)
    assert not is_in(content_digests(images.reshape(3, 1, 4, 2), 256), found).any()


def test_is_in() -> None:
    assert is_in(OTHER[:3], OTHER[1:]).tolist() == [False, True, True]
    assert is_in(OTHER[:2], OTHER[:0]).tolist() == [False, False]
    assert is_in(OTHER[:0], OTHER).shape == (0,)
