"""What a combined score is fitted on, read off a score table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from calibration.arrays import FloatArray
from calibration.combined_score import LOG_PROB
from calibration.outlier_exposure import Outliers
from calibration.posterior import rows_of
from calibration.table import floats_of, statistics_of


def fit_rows(table: pa.Table) -> pa.Table:
    """The rows of split ``fit``."""
    return table.filter(pa.array(rows_of(table, "fit")))


def values_of(table: pa.Table) -> dict[str, FloatArray]:
    """``log_prob`` and the statistics of a table by name, (N,) each."""
    return {LOG_PROB: floats_of(table, LOG_PROB), **statistics_of(table)}


def outliers_of(table: pa.Table, names: Sequence[str]) -> Outliers:
    """The rows of split ``outlier`` with the statistics ``names``, by the fit row that each is of.

    A copy of a row that is not there is left out.
    """
    place = {id_: row for row, id_ in enumerate(fit_rows(table).column("id").to_pylist())}
    copies = table.filter(pa.array(rows_of(table, "outlier")))
    of = [place.get(id_, -1) for id_ in copies.column("id").to_pylist()]
    there = np.array(of, dtype=np.int64) >= 0
    values = values_of(copies)
    return Outliers(
        values={name: values[name][there] for name in names},
        of=np.array(of, dtype=np.int64)[there],
    )
