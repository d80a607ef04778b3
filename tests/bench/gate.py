"""Figures of the gate from verdict tables: ``python -m tests.bench.gate ID_TABLE [OOD_TABLE ...]``.

ID_TABLE holds fresh images like the training data with their labels, the others strangers; each is
a folder written by ``oodgate score``. Nothing is fitted here.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calibration.conformal import attained_rank, beta_binomial_interval
from calibration.metrics import auroc


def column(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.array(table[name].to_numpy(), dtype=np.float64)


def in_distribution(table: pa.Table) -> str:
    """Accuracy, realised rates, and the interval that a perfect gate stays inside."""
    n, alpha = table["reference_size"][0].as_py(), table["alpha"][0].as_py()
    count = int((column(table, "p_value") <= alpha).sum())
    low, high = beta_binomial_interval(table.num_rows, attained_rank(n, alpha), n, 0.99)
    right = pc.mean(pc.equal(table["class_index"], table["label"]).cast(pa.float64())).as_py()
    return (
        f"accuracy {right:.4f}, {column(table, 'bits_per_dim').mean():.3f} bits/dim; p_value <= "
        f"{alpha}: {count} of {table.num_rows} ({count / table.num_rows:.4f}), 99% interval {low} "
        f"to {high}; rejected {share(table, 'reject'):.4f}, abstained {share(table, 'abstain'):.4f}"
    )


def share(table: pa.Table, decision: str) -> float:
    return float(np.mean([value == decision for value in table["decision"].to_pylist()]))


def strangers(table: pa.Table, reference: pa.Table) -> str:
    """Rejection and AUROC: of the p-value, and of log p alone (low = stranger)."""
    scores = {
        "typicality": auroc(-column(reference, "p_value"), -column(table, "p_value")),
        "log p": auroc(-column(reference, "log_prob"), -column(table, "log_prob")),
    }
    shown = ", ".join(f"AUROC {name} {value:.4f}" for name, value in scores.items())
    return f"rejected {share(table, 'reject'):.4f}, {shown}"


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    reference, *others = (pq.read_table(path) for path in sys.argv[1:])
    print(f"{sys.argv[1]}: {in_distribution(reference)}")
    for path, table in zip(sys.argv[2:], others, strict=True):
        print(f"{path}: {strangers(table, reference)}")


if __name__ == "__main__":
    main()
