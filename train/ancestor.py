"""The rows that the model a run begins with (``--init``) was trained on.

A gate is calibrated on the rows that a run holds out. Those must be new to the model, so none may
have trained the one that it began with either, and the run's record takes those rows over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from calibration.rows import RowRecord, RowsError, is_in
from model.checkpoint import CheckpointError
from train.run_file import ROWS_FILE, RUN_FILE

#: Where a bundle keeps the same: its manifest and the hashes, from the bundle's folder.
MANIFEST, BUNDLE_ROWS = "manifest.json", "data/rows.bin"


def model_folder(source: Path) -> Path:
    """Where the model's files are: in ``source``, or in the ``model`` folder inside of it."""
    return source / "model" if (source / "model").is_dir() else source


def descended(source: Path, record: RowRecord) -> RowRecord:
    """``record`` with the rows that the model in ``source`` was trained on.

    ``source`` is a run, a bundle or the ``model`` folder inside of one; a model without a record
    cannot be checked and adds nothing. Raises ``CheckpointError`` where rows held out in ``record``
    are among those rows.
    """
    found = _described(source)
    if found is None:
        return record
    trained_on = found.record.trained_on
    known = sum(int(is_in(part, trained_on).sum()) for part in (record.fit, record.cal))
    held_out = len(record.fit) + len(record.cal)
    if known:
        raise CheckpointError(
            f"{source} was trained on {known:,} of the {held_out:,} rows that this run holds out "
            "to calibrate on: choose the --data, --seed, --fit-rows and --cal-rows that it was "
            "trained with, or rows that are new to it"
        )
    return record.descended(trained_on)


def rows_recorded(source: Path) -> bool:
    """Whether all rows that the model in ``source`` comes from are known, back to its beginning."""
    found = _described(source)
    return found is not None and recorded_fully(found.training)


def recorded_fully(training: Mapping[str, Any]) -> bool:
    """Whether a record of rows has all that the weights come from, by what ``training`` says.

    ``training``: ``run.json``, or a manifest's part of that name.
    """
    if training["config"].get("init") is None:
        return True
    return bool((training.get("init") or {}).get("rows_recorded"))


class _Described(NamedTuple):
    record: RowRecord
    training: Mapping[str, Any]


def _described(source: Path) -> _Described | None:
    """What is known of the model's training; None where there is no record."""
    folder = model_folder(source).absolute().parent
    for described, rows in ((RUN_FILE, ROWS_FILE), (MANIFEST, BUNDLE_ROWS)):
        if (folder / described).is_file() and (folder / rows).is_file():
            return _read(folder / described, folder / rows)
    return None


def _read(described: Path, rows: Path) -> _Described:
    try:
        said = json.loads(described.read_bytes())
        counts, training = (
            (said["rows"], said) if "rows" in said else (said["data"]["rows"], said["training"])
        )
        recorded_fully(training)  # or it is no description
        content = rows.read_bytes()
        if described.name == MANIFEST:
            check_sealed(rows, content, said, BUNDLE_ROWS)
        return _Described(RowRecord.from_bytes(content, counts), training)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        RowsError,
    ) as error:
        raise CheckpointError(
            f"{rows} is no record of training rows by {described} ({error}): restore the model's "
            "folder"
        ) from error


def check_sealed(path: Path, content: bytes, manifest: Mapping[str, Any], name: str) -> None:
    """Raise ``CheckpointError`` where ``path``, the bundle's file ``name``, is not as sealed."""
    files = manifest.get("files")
    seal = files.get(name) if isinstance(files, dict) else None
    expected = seal.get("sha256") if isinstance(seal, dict) else None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise CheckpointError(
            f"{path} is not as sealed: expected SHA-256 {expected}, found {found}; restore the "
            "bundle"
        )
