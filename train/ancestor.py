"""The rows that the model a run begins with (``--init``) was trained on.

A gate is calibrated on the rows that a run holds out. Those must be new to the model, so none may
have trained the one that it began with either. Known is what that model's own record has: not what
trained a model before it.
"""

from __future__ import annotations

import json
from pathlib import Path

from calibration.rows import Digests, RowRecord, RowsError, is_in
from model.checkpoint import CheckpointError
from train.run_file import ROWS_FILE, RUN_FILE

#: Where a bundle keeps the same: its manifest and the hashes, from the bundle's folder.
MANIFEST, BUNDLE_ROWS = "manifest.json", "data/rows.bin"


def model_folder(source: Path) -> Path:
    """Where the model's files are: in ``source``, or in the ``model`` folder inside of it."""
    return source / "model" if (source / "model").is_dir() else source


def refuse_trained_on(source: Path, record: RowRecord) -> None:
    """Raise ``CheckpointError`` where rows held out in ``record`` trained the model in ``source``.

    ``source`` is a run, a bundle or the ``model`` folder inside of one; a model without a record
    cannot be checked and passes.
    """
    trained_on = _trained_on(source)
    if trained_on is None:
        return
    known = sum(int(is_in(part, trained_on).sum()) for part in (record.fit, record.cal))
    held_out = len(record.fit) + len(record.cal)
    if known:
        raise CheckpointError(
            f"{source} was trained on {known:,} of the {held_out:,} rows that this run holds out "
            "to calibrate on: choose the --data, --seed, --fit-rows and --cal-rows that it was "
            "trained with, or rows that are new to it"
        )


def _trained_on(source: Path) -> Digests | None:
    """Digests (n, 32) of the training rows; None where there is no record."""
    folder = model_folder(source).absolute().parent
    for described, rows in ((RUN_FILE, ROWS_FILE), (MANIFEST, BUNDLE_ROWS)):
        if (folder / described).is_file() and (folder / rows).is_file():
            return _read(folder / described, folder / rows)
    return None


def _read(described: Path, rows: Path) -> Digests:
    try:
        said = json.loads(described.read_bytes())
        counts = said["rows"] if "rows" in said else said["data"]["rows"]
        return RowRecord.from_bytes(rows.read_bytes(), counts).train
    except (OSError, ValueError, KeyError, TypeError, RecursionError, RowsError) as error:
        raise CheckpointError(
            f"{rows} is no record of training rows by {described} ({error}): restore the model's "
            "folder"
        ) from error
