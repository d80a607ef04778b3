"""Which rows train, which fit the gate, which calibrate it; recorded by content hash.

The record itself is ``calibration.rows.RowRecord``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import IntArray
from calibration.rows import Digests
from train.data import DataError

#: Share of a small data set that is held out, half to fit and half to calibrate.
SMALL_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row indices of each part, ascending."""

    train: IntArray
    fit: IntArray
    cal: IntArray


def hold_out(digests: Digests, *, fit_rows: int, cal_rows: int, seed: int) -> Split:
    """A random split in which equal images always fall into the same part.

    The held-out rows are at most 30% of the data, shared in the ratio asked for. Random rather
    than stratified, so that calibration rows are exchangeable with fresh ones.
    """
    total = len(digests)
    share = min(1.0, SMALL_SHARE * total / (fit_rows + cal_rows))
    wanted = {"cal": int(cal_rows * share), "fit": int(fit_rows * share)}
    if min(wanted.values()) < 1:
        raise DataError(f"{total} rows are too few to hold out calibration rows from: expected 7+")
    parts: dict[str, list[IntArray]] = {"cal": [], "fit": [], "train": []}
    room = {**wanted, "train": total}
    for group in _shuffled_groups(digests, seed):
        part = next(name for name in parts if room[name] >= len(group))
        room[part] -= len(group)
        parts[part].append(group)
    for name, groups in parts.items():
        if not groups:
            raise DataError(f"no row is left for part {name}: most rows are copies of each other")
    return Split(**{name: np.sort(np.concatenate(groups)) for name, groups in parts.items()})


def drawn(rows: IntArray, count: int | None, seed: int) -> IntArray:
    """``count`` of ``rows``, ascending, drawn by ``seed``; all of them where ``count`` is None.

    Raises ``DataError`` where there are fewer.
    """
    if count is None:
        return rows
    if count > len(rows):
        raise DataError(f"rows {count}: {len(rows)} are left to train on after holding out")
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def _shuffled_groups(digests: Digests, seed: int) -> list[IntArray]:
    """Indices of equal images together, the groups in random order."""
    _, first, inverse = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    counts = np.bincount(inverse.ravel())
    groups = np.split(order, np.cumsum(counts)[:-1])
    by_first = [groups[i] for i in np.argsort(first)]  # independent of how hashes sort
    shuffled = np.random.default_rng(seed).permutation(len(by_first))
    return [by_first[i] for i in shuffled]
