"""When training has failed: weights or a loss that are no numbers, or a loss far above its best."""

from __future__ import annotations

import math
from pathlib import Path

from torch import nn

#: Nats by which the loss of an epoch so far may exceed the best seen. A class loss of 20 nats is
#: far beyond a coin's for any number of classes, and L_X moves by single nats a dimension.
FAR_ABOVE = 20.0

#: Looks in a row that must find it there: a single bad batch is no divergence.
PATIENCE = 3


class TrainingDivergedError(RuntimeError):
    """The loss stopped being a finite number, or rose far above its best and stayed there."""


class Watchdog:
    """Looks at figures as training goes on, and raises when they say that it has failed."""

    def __init__(self, state_file: Path, learning_rate: float) -> None:
        self._state_file = state_file
        self._learning_rate = learning_rate
        self._best = math.inf
        self._strikes = 0

    @property
    def suspicious(self) -> bool:
        """Whether the last look found the loss too high: not a state to save."""
        return self._strikes > 0

    def look(self, step: int, figures: dict[str, float]) -> dict[str, float]:
        """Pass figures through; raises ``TrainingDivergedError``."""
        loss = self.finite(step, figures)["loss"]
        self._best = min(self._best, loss)
        self._strikes = self._strikes + 1 if loss > self._best + FAR_ABOVE else 0
        if self._strikes >= PATIENCE:
            raise self._error(step, f"the loss is {loss:.4g} after a best of {self._best:.4g}")
        return figures

    def finite(self, step: int, figures: dict[str, float]) -> dict[str, float]:
        """Pass figures through; raises where one of them is no finite number."""
        if not all(math.isfinite(value) for value in figures.values()):
            raise self._error(step, f"the loss is no longer finite: {figures}")
        return figures

    def check_weights(self, step: int, module: nn.Module) -> None:
        """Raise where a weight is no finite number."""
        for name, value in module.named_parameters():
            if not value.isfinite().all():
                raise self._error(step, f"{name} holds values that are no numbers")

    def _error(self, step: int, found: str) -> TrainingDivergedError:
        return TrainingDivergedError(
            f"near step {step} {found}; the last good state is {self._state_file} and its model "
            f"beside it; try a lower --learning-rate than {self._learning_rate}"
        )
