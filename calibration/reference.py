"""The known scores that a new one is ranked among: sorted once, read by every decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
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
from calibration.typicality import two_sided_rank

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
    one ascending (n,) array for each of ``names``; ``centre`` and ``scale`` (S,) are their medians
    and interquartile ranges (1 where that is 0).
    """

    held_out: FloatArray
    train: FloatArray
    names: tuple[str, ...]
    statistics: tuple[FloatArray, ...]
    centre: FloatArray
    scale: FloatArray

    @classmethod
    def from_table(cls, rows: pa.Table) -> Reference:
        """The ``cal`` rows, and the log_prob of the ``train`` rows, of ``reference_rows``."""
        splits = np.array(rows.column("split").to_pylist(), dtype=object)
        cal, train = splits == "cal", splits == "train"
        log_prob = floats_of(rows, "log_prob")
        columns = {name: np.sort(values[cal]) for name, values in statistics_of(rows).items()}
        quartiles = np.array([np.quantile(c, [0.25, 0.5, 0.75]) for c in columns.values()])
        low, middle, high = quartiles.reshape(-1, 3).T
        return cls(
            held_out=np.sort(log_prob[cal]),
            train=np.sort(log_prob[train]),
            names=tuple(columns),
            statistics=tuple(columns.values()),
            centre=middle,
            scale=np.where(high > low, high - low, 1.0),
        )

    def unusual(
        self, statistics: Mapping[str, npt.ArrayLike], extreme: Mapping[str, FloatArray]
    ) -> list[list[tuple[str, float]]]:
        """Per row the ``NAMED`` most extreme statistics with their two-sided p, the first foremost.

        ``statistics`` has an (N,) array for at least one name; ``extreme`` how far out each is,
        (N,) by name, such as |normal scores|; where names are missing there, the distance from the
        median in interquartile ranges. Each p is exact on its own; the smallest of many is no test.
        """
        values = np.array([statistics[name] for name in self.names], dtype=np.float64)
        if all(name in extreme for name in self.names):
            away = np.array([extreme[name] for name in self.names])
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                away = np.abs((values.T - self.centre) / self.scale).T
        order = np.argsort(-np.where(np.isnan(away), np.inf, away), axis=0, kind="stable")[:NAMED].T
        p: FloatArray = np.empty(order.shape)
        for index in np.unique(order).tolist():
            rows, places = np.nonzero(order == index)
            ranks = two_sided_rank(self.statistics[index], values[index, rows])
            p[rows, places] = ranks / (len(self.held_out) + 1)
        return [
            [(self.names[index], value) for index, value in zip(indices, own, strict=True)]
            for indices, own in zip(order.tolist(), p.tolist(), strict=True)
        ]
