"""The known scores that a new one is ranked among: sorted once, read by every decision."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from calibration.arrays import FloatArray
from calibration.errors import CalibrationError
from calibration.table import (
    SCORE_SCHEMA,
    SPLITS,
    STATISTIC_PREFIX,
    TableError,
    check_table,
    floats_of,
    statistics_of,
)

#: How many statistics a verdict names as its most unusual.
NAMED = 3

#: No score of a reference is beyond it: its square is still a number to add up.
LARGEST = 1e150


def reference_rows(table: pa.Table) -> pa.Table:
    """The rows and columns that a calibration is fitted on and keeps.

    Rows with an error go: such an image gets no verdict in service either, so the promises are
    about the others. Raises ``TableError`` unless ``check_table`` passes, each row that is left has
    a split and no score is beyond ``LARGEST``, and ``CalibrationError`` where none of the rows is a
    calibration row.
    """
    check_table(table)
    statistics = [name for name in table.column_names if name.startswith(STATISTIC_PREFIX)]
    rows = table.select([*SCORE_SCHEMA.names, *statistics])
    rows = rows.filter(rows.column("error").is_null()).combine_chunks()
    unplaced = rows.column("split").null_count
    if unplaced:
        raise TableError(
            f"column split: found null in {unplaced} of {rows.num_rows} rows, expected one of "
            f"{', '.join(SPLITS)} in every row without an error"
        )
    if "cal" not in rows.column("split").to_pylist():
        raise CalibrationError(
            "found no usable row of split cal, expected the held-out rows that new images are "
            "ranked among; score images that were not trained on"
        )
    for name in ("log_prob", *statistics):
        largest = np.abs(floats_of(rows, name)).max()
        if largest > LARGEST:
            raise TableError(f"column {name}: found {largest:g}, expected at most {LARGEST:g}")
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Sorted scores of the calibration rows, and of training rows if the table had any.

    ``held_out`` (n,) and ``train`` (may be empty) are log p(x), nats, ascending. ``statistics`` has
    one ascending (n,) array for each name.
    """

    held_out: FloatArray
    train: FloatArray
    statistics: Mapping[str, FloatArray]

    @property
    def names(self) -> tuple[str, ...]:
        """The statistics, in the order of the table."""
        return tuple(self.statistics)

    @classmethod
    def from_table(cls, rows: pa.Table) -> Reference:
        """The ``cal`` rows, and the log_prob of the ``train`` rows, of ``reference_rows``."""
        splits = np.array(rows.column("split").to_pylist(), dtype=object)
        cal, train = splits == "cal", splits == "train"
        log_prob = floats_of(rows, "log_prob")
        columns = {name: np.sort(values[cal]) for name, values in statistics_of(rows).items()}
        return cls(
            held_out=np.sort(log_prob[cal]),
            train=np.sort(log_prob[train]),
            statistics=columns,
        )

    def unusual(
        self, names: Sequence[str], values: FloatArray, normal: FloatArray
    ) -> list[list[tuple[str, float]]]:
        """Per row the ``NAMED`` most extreme statistics with their two-sided p, the first foremost.

        ``values`` (N, S) of the statistics ``names`` and their normal scores ``normal`` (N, S), of
        which the largest are the most extreme; those that are no statistic of the reference are
        passed over. Each p is exact on its own; the smallest of many is no test.
        """
        known = [name in self.statistics for name in names]
        extreme = np.where(known, np.abs(normal), -1.0)
        order = np.argsort(extreme, axis=1)[:, : -NAMED - 1 : -1]  # NaN, sorted last, comes first
        return [
            [
                (names[i], self.p_value(names[i], float(row[i])))
                for i in indices
                if names[i] in self.statistics
            ]
            for row, indices in zip(values, order.tolist(), strict=True)
        ]

    def p_value(self, name: str, value: float) -> float:
        """Two-sided p of one statistic's value, exact on its own."""
        return self._rank(name, value) / (len(self.held_out) + 1)

    def _rank(self, name: str, value: float) -> int:
        """``typicality.two_sided_rank`` of one value, which is not worth an array."""
        known: Sequence[float] = self.statistics[name].data  # quicker to search than the array
        tail = 0
        if not math.isnan(value):
            tail = min(bisect_right(known, value), len(known) - bisect_left(known, value))
        return min(2 + 2 * tail, len(known) + 1)
