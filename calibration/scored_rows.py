"""Rows of scores as drift looks at them: S, what it is made of, and the predicted class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration, top_class
from calibration.combined_score import LOG_PROB

#: The name that S goes by in tables and beside the columns.
SCORE = "score"


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRows:
    """N rows in their order.

    ``scores`` (N,) are S, higher = stranger, NaN where one is not finite; ``columns`` name -> (N,)
    are ``log_prob`` (nats) and each statistic; ``predicted`` (N,) the class of the largest logit.
    """

    scores: FloatArray
    columns: Mapping[str, FloatArray]
    predicted: IntArray

    @classmethod
    def of(
        cls,
        scores: FloatArray,
        logits: FloatArray,
        log_prob: FloatArray,
        statistics: Mapping[str, FloatArray],
    ) -> ScoredRows:
        """S (N,) and what it was made of: ``logits`` (N, K), the others (N,)."""
        columns = {LOG_PROB: log_prob, **statistics}
        return cls(scores=scores, columns=columns, predicted=top_class(logits))

    def __len__(self) -> int:
        """N."""
        return len(self.scores)

    def __getitem__(self, rows: slice) -> ScoredRows:
        """Some of the rows."""
        return ScoredRows(
            scores=self.scores[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            predicted=self.predicted[rows],
        )


def joined(parts: list[ScoredRows]) -> ScoredRows:
    """All rows of at least one part, in order; all parts have the same columns."""
    return ScoredRows(
        scores=np.concatenate([part.scores for part in parts]),
        columns={
            name: np.concatenate([part.columns[name] for part in parts])
            for name in parts[0].columns
        },
        predicted=np.concatenate([part.predicted for part in parts]),
    )


def held_out_rows(calibration: Calibration) -> ScoredRows:
    """The rows that new images are ranked among."""
    logits, log_prob, statistics = calibration.held_out()
    scores = calibration.scores(logits, log_prob, statistics)
    return ScoredRows.of(scores, logits, log_prob, statistics)
