"""A small model held against digits, as suites of an evaluation take it."""

from __future__ import annotations

from service.bundle import Bundle
from service.cli.evaluate import model_of
from train.data import open_data
from train.evaluation.measure import Held, hold

#: Known images that are enough of a suite.
ROWS = 60


def held_digits(bundle: Bundle) -> Held:
    """``ROWS`` digits that the model has not seen."""
    return hold(model_of(bundle), open_data("digits:test"), (), ROWS)
