"""Holding rows out: how many, which, and that no image is on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.rows import Digests, is_in
from train.data import DataError
from train.split import Split, hold_out


def digests(count: int, seed: int = 0) -> Digests:
    rows = np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)
    assert len(np.unique(rows, axis=0)) == count
    return rows


def split(rows: Digests, fit_rows: int = 5000, cal_rows: int = 5000, seed: int = 0) -> Split:
    return hold_out(rows, fit_rows=fit_rows, cal_rows=cal_rows, seed=seed)


def parts(found: Split) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return [found.train, found.fit, found.cal]


@pytest.mark.parametrize(
    ("total", "fit_rows", "cal_rows", "expected"),
    [
        (60_000, 5000, 5000, (50_000, 5000, 5000)),
        (33_334, 5000, 5000, (23_334, 5000, 5000)),
        (1000, 5000, 5000, (700, 150, 150)),
        (1437, 5000, 5000, (1007, 215, 215)),
        (100, 5000, 5000, (70, 15, 15)),
        (1000, 100, 200, (700, 100, 200)),
        (1000, 1000, 2000, (700, 100, 200)),
        (7, 5000, 5000, (5, 1, 1)),
    ],
)
def test_sizes(total: int, fit_rows: int, cal_rows: int, expected: tuple[int, int, int]) -> None:
    found = split(digests(total), fit_rows, cal_rows)
    assert tuple(len(part) for part in parts(found)) == expected


def test_every_row_is_in_one_part() -> None:
    found = np.concatenate(parts(split(digests(500))))
    np.testing.assert_array_equal(np.sort(found), np.arange(500))


def test_parts_are_ascending() -> None:
    for part in parts(split(digests(500))):
        assert (np.diff(part) > 0).all()


def test_a_seed_decides() -> None:
    rows = digests(500)
    first, again, other = split(rows), split(rows), split(rows, seed=1)
    for one, two in zip(parts(first), parts(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.cal, other.cal)


def test_rows_are_spread_over_the_data() -> None:
    """Not the last rows, nor the first: sets are often sorted by class or writer."""
    cal = split(digests(2000)).cal
    assert np.histogram(cal, bins=4, range=(0, 2000))[0].min() > 40


def test_equal_images_fall_into_the_same_part() -> None:
    rows = digests(300)
    repeated = np.concatenate([rows, rows[:200], rows[100:150]])
    order = np.random.default_rng(1).permutation(len(repeated))
    repeated = repeated[order]
    found = split(repeated)
    held = [repeated[part] for part in parts(found)]
    assert not is_in(held[0], np.concatenate(held[1:])).any()
    assert not is_in(held[1], held[2]).any()
    np.testing.assert_array_equal(np.sort(np.concatenate(parts(found))), np.arange(550))


def test_held_out_rows_are_never_more_than_asked_for() -> None:
    rows = np.repeat(digests(100), 3, axis=0)
    found = split(rows)
    assert len(found.fit) <= 45
    assert len(found.cal) <= 45


@pytest.mark.parametrize("total", [0, 1, 6])
def test_too_few_rows(total: int) -> None:
    with pytest.raises(DataError, match=f"{total} rows are too few"):
        split(digests(total))


def test_copies_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="copies of each other"):
        split(np.zeros((50, 32), np.uint8))


def test_a_part_that_stays_empty_is_an_error() -> None:
    """Eight pairs of equal images: nothing of size one is left for the gate."""
    with pytest.raises(DataError, match="no row is left for part cal"):
        split(np.repeat(digests(4), 2, axis=0))
