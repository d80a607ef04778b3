"""Which rows of a whole set are strangers: the second pass of ``--fdr``.

By the procedure of Benjamini and Hochberg over all p-values of the table, by
``calibration.multiple``; only how often each occurs has to be kept: ranks take few values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from calibration.multiple import critical_p, fewest_found
from service.batch.folder import Folder
from service.batch.parts import part_names
from service.verdict_table import FDR_REJECTED


def decide(staged: Folder, folder: Folder, q: float, advance: Callable[[int], None]) -> int:
    """Write each part of ``staged`` into ``folder`` with the column ``fdr_rejected``; how many it
    names. It is null where there is no p-value. Parts that are there already stay."""
    names, there, named = part_names(staged), set(folder.names()), 0
    critical = critical_p(counted(staged.table(name, ["p_value"]) for name in names), q)
    for name in names:
        table = staged.table(name)
        column = _named(table.column("p_value"), critical)
        named += pc.sum(column).as_py() or 0
        if name not in there:
            folder.write_table(name, table.append_column(FDR_REJECTED, column))
        advance(table.num_rows)
    return named


def counted(tables: Iterable[pa.Table]) -> Counter[float]:
    """How often each p-value occurs."""
    counts: Counter[float] = Counter()
    for table in tables:
        values = table.column("p_value").drop_null().to_numpy()
        found, times = np.unique(values, return_counts=True)
        counts.update(dict(zip(found.tolist(), times.tolist(), strict=True)))
    return counts


def warning(rows: int, q: float, smallest_p: float) -> str | None:
    """Where the reference is too small for ``q`` over ``rows`` rows; None where it is not."""
    fewest = fewest_found(rows, q, smallest_p) if rows else 1
    if fewest == 1:
        return None
    few = f"--fdr {q:g} over {rows:,} images with {smallest_p:.2g} as the smallest p-value"
    if fewest is None:
        return f"warning: {few}: no image can be named; calibrate with more rows"
    return (
        f"warning: {few}: none is named unless {fewest:,} are that strange "
        f"({fewest / rows:.2%}); calibrate with more rows to find fewer"
    )


def _named(p_values: pa.ChunkedArray, critical: float | None) -> pa.ChunkedArray:
    return pc.less_equal(p_values, pa.scalar(-1.0 if critical is None else critical))
