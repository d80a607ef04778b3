"""A verdict table read once, in blocks of the same rows however it was cut into parts.

So whatever is summed or drawn over the rows does not depend on the parts, to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.table import SCORE_SCHEMA, STATISTIC_PREFIX, TableError, floats_of
from service.verdict_table import FDR_REJECTED, VERDICT_FIELDS

#: Rows of a block; the last may have fewer.
ROWS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """N rows in their order; ``first`` is the number of the first in the whole table, from 0.

    ``scored`` (N,): those without an error; ``judged`` (N,): those with a p-value. ``p_value`` and
    ``score`` (N,) are NaN where there is none.
    """

    first: int
    table: pa.Table
    scored: BoolArray
    judged: BoolArray
    p_value: FloatArray
    score: FloatArray

    @classmethod
    def of(cls, table: pa.Table, first: int) -> Block:
        """Rows of a verdict table."""
        p_value = floats_of(table, "p_value")
        return cls(
            first=first,
            table=table,
            scored=np.array(table.column("error").is_null().to_numpy(), dtype=np.bool_),
            judged=~np.isnan(p_value),
            p_value=p_value,
            score=floats_of(table, "score"),
        )

    def __len__(self) -> int:
        """N."""
        return int(self.table.num_rows)

    def integers(self, name: str) -> IntArray:
        """One int64 column (N,); null becomes -1."""
        column = pc.fill_null(self.table.column(name).combine_chunks(), -1)
        return np.array(column.to_numpy(zero_copy_only=False), dtype=np.int64)

    def matrix(self, name: str, chosen: BoolArray, width: int) -> FloatArray:
        """A column of lists in the ``chosen`` (N,) rows as (n, width).

        Raises ``TableError`` where a list has another length.
        """
        column = self.table.column(name).combine_chunks().filter(pa.array(chosen))
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        for wrong in np.flatnonzero(lengths != width)[:1]:
            row = self.first + int(np.flatnonzero(chosen)[wrong])
            raise TableError(
                f"column {name}, row {row}: found {lengths[wrong]} values, expected {width}, one a "
                "class of the model: name the bundle that scored the table"
            )
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN like any other
            flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        found: FloatArray = flat.reshape(-1, width)
        return found


def blocks(tables: Iterable[pa.Table]) -> Iterator[Block]:
    """The rows of all parts in their order; no more than one part and a block are held at once.

    Raises ``TableError`` where a part is no verdict table or has other columns than the first.
    """
    schema: pa.Schema | None = None
    waiting: pa.Table | None = None
    first = 0
    for table in tables:
        part = _used(table)
        if schema is not None and not part.schema.equals(schema):
            raise TableError(
                f"columns: found {_told(part.schema)} in a part after one with {_told(schema)}, "
                "expected those of one run of oodgate score"
            )
        schema = part.schema
        waiting = part if waiting is None else pa.concat_tables([waiting, part])
        while waiting.num_rows >= ROWS:
            yield Block.of(waiting.slice(0, ROWS).combine_chunks(), first)
            waiting, first = waiting.slice(ROWS), first + ROWS
    if waiting is not None and waiting.num_rows:
        yield Block.of(waiting.combine_chunks(), first)


def _used(table: pa.Table) -> pa.Table:
    """The columns of a verdict table, checked, without others that it may have."""
    expected = {field.name: field.type for field in (*SCORE_SCHEMA, *VERDICT_FIELDS)}
    named = [name for name in table.column_names if name.startswith(STATISTIC_PREFIX)]
    expected |= dict.fromkeys(named, pa.float64())
    if FDR_REJECTED.name in table.column_names:
        expected[FDR_REJECTED.name] = FDR_REJECTED.type
    for name, kind in expected.items():
        found = table.schema.field(name).type if name in table.column_names else None
        if found is None or not _alike(found, kind):
            raise TableError(
                f"column {name}: found {found or 'none'}, expected {kind} as in a verdict table: "
                "summarise a table that oodgate score wrote"
            )
    return table.select(list(expected)).replace_schema_metadata(None)


def _alike(found: pa.DataType, kind: pa.DataType) -> bool:
    """Equal but for the name of a list's items, which differs between writers."""
    if pa.types.is_list(found) and pa.types.is_list(kind):
        return _alike(found.value_type, kind.value_type)
    return bool(found == kind)


def _told(schema: pa.Schema) -> str:
    return f"{len(schema.names)} columns ({', '.join(schema.names[-3:])} last)"
