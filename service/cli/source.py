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
    A_BASELINE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointError,
    parse_model,
)
from service.bundle import HISTORY, MODEL_CONFIG, MODEL_WEIGHTS, Bundle, verified_contents
from service.catalog import find_bundle
from train.loop import HISTORY_FILE
from train.run import MODEL_FOLDER, SCORES_FILE
from train.run_file import ROWS_FILE, RUN_FILE, read_run, run_config


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model with what is known of its training.

    ``config`` and ``weights`` are the bytes of its files; ``training_scores`` the score table of
    training rows; ``history`` the training log, a JSON line an epoch, empty where none was kept;
    ``prior`` an earlier calibration of the same weights, if there is one.
    """

    name: str
    checkpoint: Checkpoint
    config: bytes
    weights: bytes
    record: RowRecord
    training_scores: pa.Table
    training: Mapping[str, Any]
    training_data: str
    history: bytes
    prior: Calibration | None


def open_source(name: str, bundles: Path | None) -> Source:
    """A checkpoint's folder or a bundle, by path or by name."""
    folder = Path(name)
    if (folder / RUN_FILE).is_file():
        return _from_checkpoint(folder)
    return _from_bundle(Bundle.load(find_bundle(name, bundles)))


def finished_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a checkpoint; raises ``CheckpointError`` where training has not finished."""
    run = read_run(folder)
    if not run.get("progress", {}).get("finished"):
        raise CheckpointError(
            f"{folder}: training has not finished; go on with it by "
            f"oodgate train --resume --out {folder}"
        )
    return run


def _from_checkpoint(folder: Path) -> Source:
    run = finished_run(folder)
    settings = run_config(run)
    if settings.kind == "resnet":
        raise CheckpointError(f"{folder}: {A_BASELINE}: expected a flow")
    log = folder / HISTORY_FILE
    try:
        config = (folder / MODEL_FOLDER / CONFIG_FILE).read_bytes()
        weights = (folder / MODEL_FOLDER / WEIGHTS_FILE).read_bytes()
        rows = (folder / ROWS_FILE).read_bytes()
        training_scores = read_table(folder / SCORES_FILE)
        history = log.read_bytes() if log.exists() else b""  # runs of earlier versions kept none
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from error
    return Source(
        name=settings.recipe,
        checkpoint=parse_model(config, weights),
        config=config,
        weights=weights,
        record=RowRecord.from_bytes(rows, run["rows"]),
        training_scores=training_scores,
        training=run,
        training_data=settings.data,
        history=history,
        prior=None,
    )


def _from_bundle(bundle: Bundle) -> Source:
    table = bundle.calibration.table
    contents = verified_contents(bundle.path, bundle.manifest.files)
    return Source(
        name=bundle.name,
        checkpoint=bundle.checkpoint,
        config=contents[MODEL_CONFIG],
        weights=contents[MODEL_WEIGHTS],
        record=bundle.rows,
        training_scores=table.filter(pc.equal(table["split"], "train")),
        training=bundle.manifest.training,
        training_data=str(bundle.manifest.data["training"]),
        history=contents[HISTORY],
        prior=bundle.calibration,
    )
