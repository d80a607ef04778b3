"""The images that are least like the calibration rows: what a person should look at first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.batch.blocks import Block


@dataclass(frozen=True, kw_only=True)
class Atypical:
    """One image: ``row`` of the table from 0, S (NaN where a score is not finite), and its classes.

    ``class_label`` is predicted; ``label`` is the true one, None where it is not known.
    """

    row: int
    id: str
    p_value: float
    score: float
    class_label: str
    label: str | None


class MostAtypical:
    """The ``keep`` smallest p-values of a stream; of equal ones the largest scores, then the first.

    A score that is NaN is larger than any other. Rows without a p-value are passed over.
    """

    def __init__(self, labels: Sequence[str], keep: int) -> None:
        self._labels, self._keep = labels, keep
        self._found: list[Atypical] = []

    def add(self, block: Block) -> None:
        """Rows in their order."""
        p, score = block.p_value, block.score
        falling = np.where(np.isnan(score), -np.inf, -score)
        order = np.lexsort([falling, ~np.isnan(score), p])  # stable: the first of equal ones
        rows = [int(row) for row in order[: self._keep] if block.judged[row]]
        found = [*self._found, *(self._row(block, row) for row in rows)]
        self._found = sorted(found, key=_key)[: self._keep]

    def result(self) -> tuple[Atypical, ...]:
        """The most atypical first."""
        return tuple(self._found)

    def _row(self, block: Block, row: int) -> Atypical:
        named = {
            name: block.table.column(name)[row].as_py() for name in ("id", "class_label", "label")
        }
        label = named["label"]
        known = label is not None and 0 <= label < len(self._labels)
        return Atypical(
            row=block.first + row,
            id=named["id"] or "",
            p_value=float(block.p_value[row]),
            score=float(block.score[row]),
            class_label=named["class_label"] or "",
            label=self._labels[label] if known else None if label is None else str(label),
        )


def _key(one: Atypical) -> tuple[float, bool, float, int]:
    unknown = math.isnan(one.score)
    return one.p_value, not unknown, 0.0 if unknown else -one.score, one.row
