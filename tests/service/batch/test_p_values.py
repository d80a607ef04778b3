"""The band of a histogram of p-values: of the law of ranks, and held by typical images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom

from service.batch import p_values
from service.batch.p_values import BINS, LEVEL, PValues, band


def test_the_band_is_beta_binomial() -> None:
    low, high = band(999, 500)
    tail = (1 - LEVEL) / BINS / 2
    law = betabinom(500, 50, 950)  # ranks 1..49 in the first bin, 50 in others, by p <= b / 20
    assert low[3] == law.ppf(tail)
    assert high[3] == law.ppf(1 - tail)
    assert len(low) == len(high) == BINS


def test_typical_images_lie_in_it() -> None:
    """In 99 of 100 draws of reference and images, all bins together; 400 draws, at most 12 miss."""
    rng, n, m, outside = np.random.default_rng(0), 199, 300, 0
    low, high = (np.array(side) for side in band(n, m))
    for _ in range(400):
        reference, scores = np.sort(rng.normal(size=n)), rng.normal(size=m)
        counts = PValues()
        counts.add((1 + n - np.searchsorted(reference, scores)) / (n + 1))
        found = counts.result(None)
        assert found is not None
        seen = np.array(found.counts)
        outside += bool(((seen < low) | (seen > high)).any())
    assert outside <= 12


def test_all_ranks_fall_into_the_bins_that_the_band_is_of() -> None:
    for n in (3, 19, 20, 99, 599):
        counts = PValues()
        counts.add(np.arange(1, n + 2) / (n + 1))
        found = counts.result(None)
        assert found is not None
        low, high = band(n, 1)
        assert found.total == n + 1
        # a bin without a rank is one that no image can be in
        assert [count == 0 for count in found.counts] == [top == 0 for top in high]
        assert set(low) <= {0, 1}


def test_beyond_so_many_rows_the_band_is_slightly_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = np.array(band(999, 50_000))
    monkeypatch.setattr(p_values, "MOST_ROWS", 10_000)
    rough = np.array(band(999, 50_000))
    assert (rough[0] <= exact[0]).all()
    assert (rough[1] >= exact[1]).all()
    assert np.abs(rough - exact).max() < 0.1 * 50_000 / BINS * 2
