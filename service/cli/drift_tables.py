"""The two sides of ``oodgate drift``, from verdict tables, score tables or a bundle's reference."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration, top_class
from calibration.combined_score import LOG_PROB
from calibration.files import REFERENCE_FILE, SCORE_FILE, load
from calibration.scored_rows import SCORE
from calibration.table import (
    STATISTIC_PREFIX,
    TableError,
    floats_of,
    logits_of,
    read_table,
    statistics_of,
)

MANIFEST, SEAL, CALIBRATION_FOLDER = "manifest.json", "manifest.sha256", "calibration"
#: Hex digits of a manifest's hash that name a version.
VERSION_DIGITS = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """Usable rows in their order; ``rows`` (N,) are their numbers in the table, from 0.

    ``with_error`` rows were left out; where there are ``cal`` rows, so were all others.
    ``calibration``: that of the bundle which the rows are the reference of.
    """

    path: Path
    table: pa.Table
    rows: IntArray
    with_error: int
    versions: frozenset[str]
    calibration: Calibration | None

    def __len__(self) -> int:
        """Usable rows."""
        return len(self.rows)

    def id_of(self, index: int) -> str | None:
        """The id of a usable row."""
        found: str | None = self.table.column("id")[index].as_py()
        return found

    @property
    def columns(self) -> dict[str, FloatArray]:
        """log_prob and every statistic by its name without prefix."""
        return {LOG_PROB: floats_of(self.table, LOG_PROB), **statistics_of(self.table)}

    @property
    def predicted(self) -> IntArray:
        """The class of each row's largest logit."""
        logits = logits_of(self.table)
        return top_class(logits) if logits.size else np.zeros(0, dtype=np.int64)

    @property
    def classes(self) -> int:
        """How many logits a row has."""
        return int(logits_of(self.table).shape[1])


def open_sides(reference: Path, stream: Path) -> tuple[Side, Side]:
    """Both tables; raises ``TableError`` where they are not of one model or a side is empty."""
    sides = open_side(reference), open_side(stream)
    versions = sides[0].versions | sides[1].versions
    if len(versions) > 1:
        raise TableError(
            f"model_version: found {', '.join(sorted(versions))} in {reference} and {stream}, "
            "expected one: scores of different bundles do not compare; score both with the same"
        )
    found = [side.classes for side in sides]
    if found[0] != found[1]:
        raise TableError(
            f"column logits: found {found[0]} classes in {reference} and {found[1]} in {stream}, "
            "expected as many in both; score both with the same model"
        )
    return sides


def open_side(path: Path) -> Side:
    """A Parquet file, a folder of parts as ``oodgate score`` writes it, or a bundle's folder."""
    if (path / MANIFEST).is_file():
        path = path / CALIBRATION_FOLDER / REFERENCE_FILE
    table = _read(path)
    usable = np.array(table.column("error").is_null().to_numpy(), dtype=np.bool_)
    with_error = int((~usable).sum())
    splits = np.array(table.column("split").to_pylist(), dtype=object)
    if "cal" in splits:
        usable &= splits == "cal"
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise TableError(f"{path}: found no row without an error, expected some; score others")
    kept = table.filter(pa.array(usable)).combine_chunks()
    calibration = _calibration_of(path)
    return Side(
        path=path,
        table=kept,
        rows=rows,
        with_error=with_error,
        versions=_versions(kept, path.parent.parent if calibration else None),
        calibration=calibration,
    )


def _calibration_of(path: Path) -> Calibration | None:
    """That of a bundle whose reference the table is."""
    folder = path.parent
    whole = path.name == REFERENCE_FILE and (folder / SCORE_FILE).is_file()
    return load(folder) if whole else None


def looked_at(reference: Side, stream: Side, name: str) -> tuple[FloatArray, FloatArray]:
    """The column of both sides that the sequential test looks at; raises ``TableError``."""
    calibration = reference.calibration or stream.calibration
    found = [_column(side, name, calibration) for side in (reference, stream)]
    wrong = int((~np.isfinite(found[0])).sum())
    if wrong:
        raise TableError(
            f"column {name} of {reference.path}: found {wrong:,} of {len(reference):,} rows that "
            "are no finite numbers, expected all to be in a reference; leave these rows out"
        )
    # one that is not finite is the strangest there is, never a row that is missing
    return found[0], np.where(np.isnan(found[1]), np.inf, found[1])


def _column(side: Side, name: str, calibration: Calibration | None) -> FloatArray:
    names = [name, STATISTIC_PREFIX + name]
    for column in names:
        if column in side.table.column_names and side.table.column(column).null_count < len(side):
            return _floats(side, column)
    if name == SCORE and calibration is not None:
        return _scores(side, calibration)
    statistics = ", ".join([LOG_PROB, *statistics_of(side.table)])
    remedy = f"or look at another by --on: {statistics}"
    if name == SCORE:
        remedy = (
            "score the images with a calibrated bundle, give the bundle's folder as A, " + remedy
        )
    raise TableError(
        f"column {name} of {side.path}: found none with numbers, expected it; {remedy}"
    )


def _floats(side: Side, column: str) -> FloatArray:
    kind = side.table.schema.field(column).type
    if kind != pa.float64():
        raise TableError(
            f"column {column} of {side.path}: found type {kind}, expected {pa.float64()}; choose "
            "log_prob or a statistic"
        )
    return floats_of(side.table, column)


def _scores(side: Side, calibration: Calibration) -> FloatArray:
    """S as the calibration has it, of a table that has only what S is made of."""
    columns, logits = side.columns, logits_of(side.table)
    missing = sorted({*calibration.combined.names} - columns.keys())
    if missing or logits.shape[1] != calibration.classes:
        raise TableError(
            f"{side.path}: found {logits.shape[1]} classes and no statistic "
            f"{', '.join(missing) or 'missing'}, expected {calibration.classes} classes and every "
            "statistic of the bundle; score the images with that bundle"
        )
    return calibration.scores(logits, columns.pop(LOG_PROB), columns)


def _read(path: Path) -> pa.Table:
    parts = [path]
    if path.is_dir():
        parts = sorted(p for p in path.glob("*.parquet") if not p.name.startswith("_"))
        if not parts:
            raise TableError(
                f"{path}: found no .parquet file in it, expected a folder that oodgate score "
                "wrote, a Parquet file or a bundle's folder"
            )
    try:
        return pa.concat_tables([read_table(os.fspath(part)) for part in parts])
    except pa.ArrowException as error:
        raise TableError(
            f"{path}: found parts of different columns ({error}), expected those of one run of "
            "oodgate score"
        ) from error


def _versions(table: pa.Table, bundle: Path | None) -> frozenset[str]:
    """Of the bundles that scored the rows, where that is known."""
    found: set[str] = set()
    if "model_version" in table.column_names:
        found = {v for v in table.column("model_version").unique().to_pylist() if v is not None}
    if bundle is not None and (bundle / SEAL).is_file():
        found.add((bundle / SEAL).read_text()[:VERSION_DIGITS])
    return frozenset(found)
