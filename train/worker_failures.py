"""How workers of a cluster fail: what another attempt would mend, and what it would not."""

from __future__ import annotations

from collections.abc import Mapping

from calibration.errors import CalibrationError
from model.checkpoint import CheckpointError
from model.compiling import CompilerError
from train.cluster import ClusterError
from train.data import DataError
from train.divergence import TrainingDivergedError
from train.recipes import RecipeError

#: What another attempt would not mend.
_FINAL = (
    CalibrationError, CheckpointError, ClusterError, CompilerError, DataError, OSError,
    RecipeError, TrainingDivergedError,
)  # fmt: skip


def raise_final(failures: Mapping[int, Exception]) -> None:
    """Raise the first of what workers raised, by their ranks, that would be raised again."""
    for _, failure in sorted(failures.items()):
        if isinstance(failure, _FINAL):
            raise failure from None
