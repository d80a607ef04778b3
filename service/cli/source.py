"""What can be calibrated: a finished checkpoint, or a bundle whose calibration is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from calibration.calibration import Calibration
from calibration.rows import RowRecord
from calibration.table import read_table
from model.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointError,
    parse_model,
)
from service.bundle import MODEL_CONFIG, MODEL_WEIGHTS, Bundle, verified
from service.catalog import find_bundle
from train.run import MODEL_FOLDER, ROWS_FILE, RUN_FILE, SCORES_FILE, read_run


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model with what is known of its training.

    ``config`` and ``weights`` are the bytes of its files; ``training_scores`` the score table of
    training rows; ``prior`` an earlier calibration of the same weights, if there is one.
    """

    name: str
    checkpoint: Checkpoint
    config: bytes
    weights: bytes
    record: RowRecord
    training_scores: pa.Table
    training: Mapping[str, Any]
    training_data: str
    prior: Calibration | None


def open_source(name: str, bundles: Path | None) -> Source:
    """A checkpoint's folder or a bundle, by path or by name."""
    folder = Path(name)
    if (folder / RUN_FILE).is_file():
        return _from_checkpoint(folder)
    return _from_bundle(Bundle.load(find_bundle(name, bundles)))


def _from_checkpoint(folder: Path) -> Source:
    run = read_run(folder)
    if not run.get("progress", {}).get("finished"):
        raise CheckpointError(
            f"{folder}: training has not finished; go on with it by "
            f"oodgate train --resume --out {folder}"
        )
    try:
        config = (folder / MODEL_FOLDER / CONFIG_FILE).read_bytes()
        weights = (folder / MODEL_FOLDER / WEIGHTS_FILE).read_bytes()
        rows = (folder / ROWS_FILE).read_bytes()
        training_scores = read_table(folder / SCORES_FILE)
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from error
    return Source(
        name=run["config"]["recipe"],
        checkpoint=parse_model(config, weights),
        config=config,
        weights=weights,
        record=RowRecord.from_bytes(rows, run["rows"]),
        training_scores=training_scores,
        training=run,
        training_data=run["config"]["data"],
        prior=None,
    )


def _from_bundle(bundle: Bundle) -> Source:
    table = bundle.calibration.table
    return Source(
        name=bundle.name,
        checkpoint=bundle.checkpoint,
        config=verified(bundle.path, MODEL_CONFIG, bundle.manifest.files),
        weights=verified(bundle.path, MODEL_WEIGHTS, bundle.manifest.files),
        record=bundle.rows,
        training_scores=table.filter(pc.equal(table["split"], "train")),
        training=bundle.manifest.training,
        training_data=str(bundle.manifest.data["training"]),
        prior=bundle.calibration,
    )
