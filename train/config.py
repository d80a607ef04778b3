"""How a model is trained, as plain data: frozen, saved in ``run.json``, enough to repeat it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the result, beside the data and the architecture.

    ``beta`` weighs the class loss in (L_X + beta L_Y) / (1 + beta): 0 is a plain flow, ``inf`` a
    feed-forward classifier. L_X is per dimension and L_Y is not, so beta compares only between
    models of one size: beta * D is what compares across sizes. ``fit_rows`` and ``cal_rows`` are
    held out for calibration. ``threads`` of the CPU belong here because sums, and so the last bits
    of the weights, depend on them.
    """

    recipe: str
    data: str
    beta: float = 1.0
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.1
    weight_decay: float = 1e-4
    grad_clip: float = 8.0
    label_smoothing: float = 0.0
    seed: int = 0
    fit_rows: int = 5000
    cal_rows: int = 5000
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot train, naming them."""
        if math.isnan(self.beta) or self.beta < 0:
            raise ValueError(f"beta {self.beta}: expected a number from 0 to inf")
        for name in ("epochs", "batch_size", "fit_rows", "cal_rows", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected 0 or more")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate {self.learning_rate}: expected a positive number")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; an infinite beta, which JSON has no number for, becomes "inf"."""
        data = asdict(self)
        return {**data, "beta": "inf" if math.isinf(self.beta) else self.beta}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """The inverse of ``to_dict``."""
        return cls(**{**data, "beta": float(data["beta"])})
