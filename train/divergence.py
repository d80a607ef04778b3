"""When training has failed: weights or a loss that are no numbers, or a loss far above its best."""

from __future__ import annotations

import math
from pathlib import Path

from torch import nn

from train.objective import class_share

#: Nats by which L_X, per dimension, and L_Y, per image, may exceed their best: 8 bits/dim more is
#: worse than saying nothing of 8-bit pixels, and 20 nats are far beyond a coin's for any number of
#: classes.
FAR_ABOVE_X, FAR_ABOVE_Y = 8 * math.log(2), 20.0

#: Looks in a row that must find the loss there: a single bad batch is no divergence.
PATIENCE = 3


class TrainingDivergedError(RuntimeError):
    """The loss stopped being a finite number, or rose far above its best and stayed there."""


class Watchdog:
    """Looks at the loss as training goes on, and raises when it says that training has failed."""

    def __init__(self, state_file: Path, learning_rate: float, beta: float) -> None:
        """``beta``: the weight of the class loss; inf for a classifier that has no other."""
        self._state_file = state_file
        self._learning_rate = learning_rate
        share = class_share(beta)
        self._limit = (1 - share) * FAR_ABOVE_X + share * FAR_ABOVE_Y
        self._best = math.inf
        self._strikes = 0

    @property
    def suspicious(self) -> bool:
        """Whether the last look found the loss too high: not a state to save."""
        return self._strikes > 0

    def look(self, step: int, loss: float) -> None:
        """Judge the mean loss of the steps since the last look."""
        self.finite(step, {"loss": loss})
        self._best = min(self._best, loss)
        self._strikes = self._strikes + 1 if loss > self._best + self._limit else 0
        if self._strikes >= PATIENCE:
            raise self._error(step, f"the loss is {loss:.4g} after a best of {self._best:.4g}")

    def at_the_end(self, step: int) -> None:
        """Raise where the last look found the loss too high: no model to hand over."""
        if self.suspicious:
            raise self._error(step, f"the loss rose far above its best of {self._best:.4g}")

    def finite(self, step: int, figures: dict[str, float]) -> dict[str, float]:
        """Pass figures through; raises where one of them is no finite number."""
        for name, value in figures.items():
            if not math.isfinite(value):
                raise self._error(step, f"{name} is no longer finite: {figures}")
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
