"""A uniform sample of a stream of rows, in bounded memory and the same every time.

Each row draws a key, in the order of the rows; those with the smallest keys stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from calibration.arrays import FloatArray

#: Rows of a sample.
SIZE = 20_000


class Reservoir:
    """At most ``size`` rows of named columns, each row of the stream with the same chance."""

    def __init__(self, size: int = SIZE, seed: int = 0) -> None:
        self._size, self._seen = size, 0
        self._rng = np.random.default_rng(seed)
        self._keys: FloatArray = np.empty(0)
        self._columns: dict[str, FloatArray] = {}

    def __len__(self) -> int:
        """Rows kept."""
        return len(self._keys)

    @property
    def seen(self) -> int:
        """Rows of the stream."""
        return self._seen

    @property
    def columns(self) -> Mapping[str, FloatArray]:
        """Name -> (n,), in the order of the stream; empty before the first row."""
        return self._columns

    def add(self, columns: Mapping[str, FloatArray]) -> None:
        """New rows (N,) of each column, with the names of the first call."""
        count = len(next(iter(columns.values())))
        drawn = self._rng.random(count)
        self._seen += count
        full = len(self._keys) == self._size
        chosen = np.flatnonzero(drawn < self._keys.max()) if full else np.arange(count)
        if not len(chosen):
            return
        keys = np.concatenate([self._keys, drawn[chosen]])
        kept = np.arange(len(keys))
        if len(keys) > self._size:
            kept = np.sort(np.argpartition(keys, self._size - 1)[: self._size])
        self._keys = keys[kept]
        before = self._columns or {name: np.empty(0) for name in columns}
        self._columns = {
            name: np.concatenate([before[name], values[chosen]])[kept]
            for name, values in columns.items()
        }
