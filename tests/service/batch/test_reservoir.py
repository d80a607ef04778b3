"""A sample of a stream: bounded, uniform, whole rows, the same however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest

from service.batch.reservoir import Reservoir


def filled(count: int, size: int, cut: int, seed: int = 0) -> Reservoir:
    found, stream = Reservoir(size, seed), np.arange(float(count))
    for i in range(0, count, cut):
        found.add({"a": stream[i : i + cut], "b": -stream[i : i + cut]})
        assert len(found) <= size
        assert len(found.columns["a"]) == len(found)
    return found


@pytest.mark.parametrize(("count", "kept"), [(7, 7), (10, 10), (11, 10), (5000, 10)])
def test_it_holds_so_many(count: int, kept: int) -> None:
    found = filled(count, 10, 3)
    assert len(found) == kept == len(set(found.columns["a"].tolist()))
    assert found.seen == count
    np.testing.assert_array_equal(found.columns["b"], -found.columns["a"])
    assert (np.diff(found.columns["a"]) > 0).all()


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_cuts_do_not_matter(cut: int) -> None:
    whole = filled(1000, 50, 64)
    np.testing.assert_array_equal(filled(1000, 50, cut).columns["a"], whole.columns["a"])


def test_every_row_has_the_same_chance() -> None:
    """800 samples of 10 of 40 rows: each row 200 times, give or take 5 sigma of 12."""
    times = np.zeros(40)
    for seed in range(800):
        times[filled(40, 10, 8, seed).columns["a"].astype(int)] += 1
    assert times.sum() == 8000
    assert np.abs(times - 200).max() < 62
