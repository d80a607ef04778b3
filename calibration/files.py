"""The three files of a calibration: its numbers, the combined score, and the reference table.

``calibration.json`` is for readers and holds what was asked and fitted; ``score.safetensors`` the
combined score; ``reference.parquet`` the rows. What follows from one and stands in another must
agree. Hashes are the bundle's business.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from calibration.calibration import Bound, Calibration
from calibration.combined_score import LOG_PROB, CombinedScore
from calibration.errors import CalibrationError
from calibration.modes import PREDICTED_CLASS
from calibration.posterior import Posterior
from calibration.record import SCHEMA_VERSION, Record, summary
from calibration.reference import reference_rows
from calibration.score_file import score_from_bytes, score_to_bytes
from calibration.table import (
    SPLITS,
    logits_of,
    statistics_of,
    table_from_bytes,
    table_to_bytes,
)
from calibration.vector_scaling import VectorScaling

RECORD_FILE = "calibration.json"
SCORE_FILE = "score.safetensors"
REFERENCE_FILE = "reference.parquet"
FILES = (RECORD_FILE, SCORE_FILE, REFERENCE_FILE)


def to_files(calibration: Calibration) -> dict[str, bytes]:
    """The content of each of ``FILES``; equal calibrations give equal bytes."""
    return {
        RECORD_FILE: record_of(calibration).to_bytes(),
        SCORE_FILE: score_to_bytes(calibration.combined),
        REFERENCE_FILE: table_to_bytes(calibration.table),
    }


def from_files(contents: dict[str, bytes]) -> Calibration:
    """The inverse of ``to_files``; raises ``CalibrationError`` naming the file at fault."""
    for name in FILES:
        if name not in contents:
            raise CalibrationError(f"{name}: missing; calibrate the model again")
    with _naming(REFERENCE_FILE):
        table = table_from_bytes(contents[REFERENCE_FILE])
        rows = reference_rows(table)
        if rows.num_rows != table.num_rows:
            raise CalibrationError("found rows with an error, expected none in a reference")
    with _naming(SCORE_FILE):
        combined = score_from_bytes(contents[SCORE_FILE])
        _check_score(combined, rows)
    with _naming(RECORD_FILE):
        record = Record.from_bytes(contents[RECORD_FILE])
        calibration = Calibration(
            alpha=record.alpha,
            delta=record.delta,
            mode=record.mode,
            posterior=_posterior(record),
            posterior_borrowed=record.posterior_borrowed,
            combined=combined,
            bound=_bound(record),
            dropped=max(0, record.counts.get("dropped", 0)),
            table=rows,
        )
        _check_same(asdict(record), asdict(record_of(calibration)))
    return calibration


def save(calibration: Calibration, folder: str | os.PathLike[str]) -> None:
    """Write the files into ``folder``, which is made where it is missing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, content in to_files(calibration).items():
        Path(folder, name).write_bytes(content)


def load(folder: str | os.PathLike[str]) -> Calibration:
    """What ``save`` wrote. Raises ``CalibrationError`` naming the file that is unusable."""
    contents = {}
    for name in FILES:
        path = Path(folder, name)
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise CalibrationError(
                f"{path}: cannot be read ({error.strerror}); calibrate the model again"
            ) from error
    with _naming(str(folder)):
        return from_files(contents)


def record_of(calibration: Calibration) -> Record:
    """What calibration.json holds."""
    splits = calibration.table.column("split").to_pylist()
    posterior, scaling = calibration.posterior, calibration.posterior.scaling
    thresholds = calibration.ranking.thresholds(calibration.alpha)
    if calibration.mode != PREDICTED_CLASS:
        thresholds = thresholds[:1]  # one and the same for all
    return Record(
        schema_version=SCHEMA_VERSION,
        mode=calibration.mode,
        alpha=calibration.alpha,
        delta=calibration.delta,
        thresholds=thresholds.tolist(),
        reference_sizes=calibration.ranking.sizes.tolist(),
        temperature=posterior.temperature,
        weights=scaling.weights.tolist() if scaling else None,
        offsets=scaling.offsets.tolist() if scaling else None,
        set_method=posterior.set_method,
        set_level=posterior.set_level,
        q_hat=posterior.q_hat,
        posterior_borrowed=calibration.posterior_borrowed,
        **asdict(calibration.bound),
        classes=calibration.classes,
        score_rows=calibration.combined.rows,
        score_groups=int(calibration.combined.group_of.max()) + 1,
        counts=_counts(splits) | {"dropped": calibration.dropped},
        statistics=list(calibration.reference.names),
        train_log_prob=summary(calibration.reference.train),
    )


def _counts(splits: list[str]) -> dict[str, int]:
    """Rows of each split; of outliers only where there are some, as earlier versions had none."""
    counts = {split: splits.count(split) for split in SPLITS}
    return {split: count for split, count in counts.items() if count or split != "outlier"}


def _check_score(combined: CombinedScore, rows: pa.Table) -> None:
    """Raise unless the score can be had of the rows: of their statistics and classes."""
    names, classes = [LOG_PROB, *statistics_of(rows)], logits_of(rows).shape[1]
    if not set(combined.names) <= set(names) or len(combined.group_of) != classes:
        raise CalibrationError(
            f"found a score of {', '.join(combined.names)} and {len(combined.group_of)} classes, "
            f"expected {', '.join(names)} and {classes} as in {REFERENCE_FILE}"
        )


def _posterior(record: Record) -> Posterior:
    scaling = None
    if (record.weights is None) != (record.offsets is None):
        raise CalibrationError("weights and offsets: found one of them, expected both or neither")
    if record.weights is not None and record.offsets is not None:
        if not len(record.weights) == len(record.offsets) == record.classes:
            raise CalibrationError(
                f"weights: found {len(record.weights)} and {len(record.offsets)} offsets, expected "
                f"{record.classes} of each"
            )
        if not (np.isfinite([*record.weights, *record.offsets]).all() and min(record.weights) > 0):
            raise CalibrationError(
                f"weights: found {record.weights} and offsets {record.offsets}, expected finite "
                "numbers, the weights above 0"
            )
        scaling = VectorScaling(
            temperature=record.temperature,
            weights=np.array(record.weights, dtype=np.float64),
            offsets=np.array(record.offsets, dtype=np.float64),
        )
    return Posterior(
        temperature=record.temperature,
        scaling=scaling,
        set_method=record.set_method,
        set_level=record.set_level,
        q_hat=record.q_hat,
    )


def _bound(record: Record) -> Bound:
    return Bound(
        weights_sha256=record.weights_sha256,
        preprocessing_sha256=record.preprocessing_sha256,
        dtype=record.dtype,
    )


def _check_same(found: dict[str, object], expected: dict[str, object]) -> None:
    for key, value in expected.items():
        if found[key] != value:
            raise CalibrationError(
                f"{key}: found {found[key]!r}, expected {value!r} from {REFERENCE_FILE} and "
                f"{SCORE_FILE}"
            )


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Put the name of a file or folder in front of what is wrong with it."""
    try:
        yield
    except CalibrationError as error:
        raise CalibrationError(f"{source}: {error}") from error
