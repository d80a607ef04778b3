"""What commands that draw and compare ask for before they begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.image import InputSpec


def need_figures(what: str) -> None:
    """Raise ``CalibrationError`` where matplotlib, which ``what`` draws with, is not installed."""
    from importlib.util import find_spec

    from calibration.errors import CalibrationError

    if find_spec("matplotlib") is None:
        raise CalibrationError(f'{what} draws with matplotlib: pip install "oodgate[figures]"')


def need_same_task(
    named: str,
    theirs: tuple[InputSpec, tuple[str, ...]],
    ours: tuple[InputSpec, tuple[str, ...]],
) -> None:
    """Raise ``CheckpointError`` where a baseline has another input or other classes than the model;
    ``named``: the option and its value."""
    from model.checkpoint import CheckpointError

    for name, found, expected in zip(("input", "classes"), theirs, ours, strict=True):
        if found != expected:
            raise CheckpointError(
                f"{named}: {name} {found}, but the model has {expected}; train it on the "
                "model's data"
            )
