"""The score table: one row an image, the seam between scoring and calibration.

Scoring writes it, calibration fits on it; a verdict table has the same columns and more. Columns:

- ``id`` string; ``label`` int64, the true class in [0, K), null = unknown
- ``split`` string: train, fit or cal; outlier, a distorted copy of the fit row of the same ``id``;
  null = not part of a calibration
- ``logits`` list<float32>, K a row, nats up to a constant shared by the classes
- ``log_prob`` float64, log p(x) in nats
- ``stat_*`` float64, one column a named statistic of the forward pass
- ``error`` string: why the row has no scores; null = it has them

It does not cover the verdict's own columns, nor folders of several Parquet files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.errors import CalibrationError

SCHEMA_VERSION = "1"
STATISTIC_PREFIX = "stat_"
SPLITS = ("train", "fit", "cal", "outlier")

_VERSION_KEY = b"oodgate.score_table"

#: The columns that every score table has; ``stat_*`` columns come on top.
SCORE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        pa.field("split", pa.string()),
        pa.field("logits", pa.list_(pa.float32())),
        pa.field("log_prob", pa.float64()),
        pa.field("error", pa.string()),
    ],
    metadata={_VERSION_KEY: SCHEMA_VERSION.encode()},
)

Labels = Sequence[int | None] | npt.NDArray[np.integer]


class TableError(CalibrationError):
    """A table that is no score table; names the column, what was found and what was expected."""


def score_table(
    *,
    ids: Sequence[str],
    labels: Labels | None,
    splits: Sequence[str | None] | None,
    logits: npt.ArrayLike,
    log_prob: npt.ArrayLike,
    statistics: Mapping[str, npt.ArrayLike],
    errors: Sequence[str | None] | None = None,
) -> pa.Table:
    """Arrays of N rows to a score table.

    ``logits`` (N, K) and ``log_prob`` (N,) in nats; ``statistics`` maps names without ``stat_`` to
    (N,). ``labels``, ``splits`` and ``errors`` may be None: null in every row. A row with an error
    may hold any numbers. Raises ``TableError`` when the columns are not of one length.
    """
    blank = [None] * len(ids)
    columns = {
        "id": pa.array(ids, pa.string()),
        "label": pa.array(blank if labels is None else labels, pa.int64()),
        "split": pa.array(blank if splits is None else splits, pa.string()),
        "logits": _list_array(logits),
        "log_prob": _float_array(log_prob),
        "error": pa.array(blank if errors is None else errors, pa.string()),
    }
    for name, values in statistics.items():
        columns[STATISTIC_PREFIX + name] = _float_array(values)
    for name, column in columns.items():
        if len(column) != len(ids):
            raise TableError(f"column {name}: found {len(column)} rows, expected {len(ids)}")
    return _canonical(pa.table(columns))


def statistics_of(table: pa.Table) -> dict[str, FloatArray]:
    """The ``stat_*`` columns as name without prefix -> float64 (N,); null becomes NaN."""
    return {
        name.removeprefix(STATISTIC_PREFIX): floats_of(table, name)
        for name in table.column_names
        if name.startswith(STATISTIC_PREFIX)
    }


def floats_of(table: pa.Table, name: str) -> FloatArray:
    """One float64 column as (N,); null becomes NaN."""
    return np.array(table.column(name).to_numpy(), dtype=np.float64)


def logits_of(table: pa.Table) -> FloatArray:
    """The logits as float64 (N, K), nats; a row without any (an error) becomes NaN.

    Raises ``TableError`` where two rows have different numbers of them.
    """
    column = table.column("logits").combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    classes = int(lengths.max(initial=0))
    present = lengths > 0
    ragged = np.flatnonzero(present & (lengths != classes))
    if ragged.size:
        raise TableError(
            f"column logits, row {_row(table, ragged[0])}: found {lengths[ragged[0]]} values, "
            f"expected {classes} as in other rows"
        )
    logits = np.full((len(lengths), classes), np.nan)
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN like any other
        logits[present] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, classes or 1)
    return logits


def labels_of(table: pa.Table) -> tuple[IntArray, BoolArray]:
    """The true classes (N,) and which of them are known (N,); an unknown one reads -1."""
    column = table.column("label").combine_chunks()
    labels = np.array(pc.fill_null(column, -1).to_numpy(zero_copy_only=False), dtype=np.int64)
    return labels, np.array(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def write_table(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a score table, or a superset of one, as Parquet; equal tables give equal bytes."""
    Path(path).write_bytes(table_to_bytes(table))


def read_table(path: str | os.PathLike[str]) -> pa.Table:
    """Read what ``write_table`` wrote. Raises ``TableError`` naming the file for anything else."""
    try:
        return table_from_bytes(Path(path).read_bytes())
    except TableError as error:
        raise TableError(f"{path}: {error}") from error


def table_to_bytes(table: pa.Table) -> bytes:
    """A table to Parquet bytes that depend on its content only, not on how it is chunked."""
    _check_columns(table)
    sink = pa.BufferOutputStream()
    pq.write_table(_canonical(table).combine_chunks(), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def table_from_bytes(data: bytes) -> pa.Table:
    """Parquet bytes to a table with the columns of a score table.

    A file without a schema version (some writers drop it) is taken by its columns; one of another
    version is refused.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        table.validate(full=True)
        version = (table.schema.metadata or {}).get(_VERSION_KEY, SCHEMA_VERSION.encode()).decode()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"not a readable Parquet file ({error}); write it again") from error
    if version != SCHEMA_VERSION:
        raise TableError(
            f"schema version: found {version}, expected {SCHEMA_VERSION}; score the images again"
        )
    _check_columns(table)
    return _canonical(table)


def check_table(table: pa.Table) -> None:
    """Raise ``TableError`` unless the columns are there and rows without error hold usable values.

    Usable: as many finite logits in each row, finite log_prob and statistics, labels in [0, K),
    splits among ``SPLITS`` or null. Reading and writing check the columns alone, since a stranger's
    scores in a verdict table may well be infinite; a reference may not hold one.
    """
    _check_columns(table)
    logits = logits_of(table)
    scored = table.column("error").is_null().to_numpy()
    named = {name: floats_of(table, name) for name in ("log_prob", *_statistic_columns(table))}
    for name, values in (("logits", logits), *named.items()):
        finite = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
        for row in np.flatnonzero(scored & ~finite)[:1]:
            raise TableError(
                f"column {name}, row {_row(table, row)}: found {values[row]}, expected finite "
                "numbers; leave the row out or say in column error why it has no scores"
            )
    _check_labels(table, logits.shape[1])
    unknown = set(table.column("split").unique().to_pylist()) - {*SPLITS, None}
    if unknown:
        raise TableError(f"column split: found {sorted(unknown)}, expected {', '.join(SPLITS)}")


def _check_labels(table: pa.Table, classes: int) -> None:
    labels, known = labels_of(table)
    for row in np.flatnonzero(known & ((labels < 0) | (labels >= classes)))[:1]:
        raise TableError(
            f"column label, row {_row(table, row)}: found {labels[row]}, expected null or a class "
            f"in [0, {classes})"
        )


def _check_columns(table: pa.Table) -> None:
    expected = {field.name: field.type for field in SCORE_SCHEMA}
    expected |= dict.fromkeys(_statistic_columns(table), pa.float64())
    for name, kind in expected.items():
        count = table.column_names.count(name)
        if count != 1:
            found = f"{count} columns" if count else f"only {', '.join(table.column_names)}"
            raise TableError(f"column {name}: found {found}, expected one of type {kind}")
        if table.schema.field(name).type != kind:
            raise TableError(
                f"column {name}: found type {table.schema.field(name).type}, expected {kind}"
            )


def _statistic_columns(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name.startswith(STATISTIC_PREFIX)]


def _canonical(table: pa.Table) -> pa.Table:
    """Our fields and schema version in place of what differs between writers: their metadata, and
    the name of a list's items."""
    ours = {field.name: field for field in SCORE_SCHEMA}
    fields = [ours.get(field.name, pa.field(field.name, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields, metadata=SCORE_SCHEMA.metadata))


def _row(table: pa.Table, index: int) -> str:
    return f"{int(index)} (id {table.column('id')[int(index)].as_py()!r})"


def _list_array(values: npt.ArrayLike) -> pa.Array:
    with np.errstate(over="ignore"):  # beyond the range of float32: infinite, and checked as such
        matrix = np.asarray(values, dtype=np.float32)
    if matrix.ndim != 2:
        raise TableError(f"column logits: found shape {matrix.shape}, expected (rows, classes)")
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * np.int32(matrix.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))


def _float_array(values: npt.ArrayLike) -> pa.Array:
    return pa.array(np.asarray(values, dtype=np.float64))
