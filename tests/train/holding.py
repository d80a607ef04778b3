"""A small model held against digits, as suites of an evaluation take it."""

from __future__ import annotations

from service.bundle import Bundle
from train.data import open_data
from train.evaluation.measure import Held, Model, hold

#: Known images that are enough of a suite.
ROWS = 60


def model_of(bundle: Bundle) -> Model:
    """What is evaluated of a bundle."""
    return Model(
        name=bundle.name,
        version=bundle.version,
        checkpoint=bundle.checkpoint,
        calibration=bundle.calibration,
        record=bundle.rows,
        training=bundle.manifest.training,
    )


def held_digits(bundle: Bundle) -> Held:
    """``ROWS`` digits that the model has not seen."""
    return hold(model_of(bundle), open_data("digits:test"), (), ROWS)
