"""Which rows of a data set may calibrate a model: never one that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import IntArray
from calibration.errors import CalibrationError
from calibration.rows import Digests, RowRecord, is_in


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Row indices to fit and to calibrate on, ascending, and how they were found.

    ``held_out``: the data is the training data, and exactly the rows held out then are used.
    ``trained_on``: rows left out because the model was trained on them.
    """

    fit: IntArray
    cal: IntArray
    held_out: bool
    trained_on: int


def select_rows(digests: Digests, record: RowRecord, seed: int = 0) -> Selection:
    """Choose among rows with ``digests`` (N, 32), given what ``record`` says of the model.

    Data in which every row of the record is found, but for an ancestor's, is the training data:
    held-out rows keep the part they were held out for. Of other data all rows but those trained on
    are used, half to fit and half to calibrate; equal images fall into the same half. Those that an
    earlier calibration used are as good as new ones: the model was not trained on them. Raises
    ``CalibrationError`` where nothing is left.
    """
    if not len(digests):
        raise CalibrationError("found no rows to calibrate on, expected some that are images")
    trained_on = is_in(digests, record.trained_on)
    # every row: held-out rows alone may be a user's own, from an earlier calibration
    if len(record.fit) and len(record.cal) and is_in(record.own.known, digests).all():
        fit, cal = is_in(digests, record.fit), is_in(digests, record.cal)
        return _selection(fit, cal, held_out=True, trained_on=int(trained_on.sum()))
    fresh = np.flatnonzero(~trained_on)
    if not len(fresh):
        raise CalibrationError(
            f"all {len(digests)} rows were trained on: their scores say nothing about new images; "
            "give rows that the model has not seen"
        )
    fit = np.zeros(len(digests), dtype=bool)
    fit[fresh] = _half(digests[fresh], seed)
    return _selection(fit, ~fit & ~trained_on, held_out=False, trained_on=int(trained_on.sum()))


def _half(digests: Digests, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """A random half of the distinct images, as a mask of rows."""
    _, inverse = np.unique(digests, axis=0, return_inverse=True)
    distinct = int(inverse.max()) + 1
    chosen = np.random.default_rng(seed).permutation(distinct) < distinct // 2
    return np.asarray(chosen[inverse.ravel()], dtype=np.bool_)


def _selection(
    fit: np.ndarray[tuple[int], np.dtype[np.bool_]],
    cal: np.ndarray[tuple[int], np.dtype[np.bool_]],
    *,
    held_out: bool,
    trained_on: int,
) -> Selection:
    return Selection(
        fit=np.flatnonzero(fit), cal=np.flatnonzero(cal), held_out=held_out, trained_on=trained_on
    )
