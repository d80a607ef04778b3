"""A report's files: ``evaluation.json`` for programs, ``evaluation.md`` and ``evaluation.html`` for
people, the figures as SVG and sheets of images as PNG beside them.

A folder is written beside its place and then renamed, so there is never half a report.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration import calibration_error
from calibration.plain_json import plain
from train.ancestor import recorded_fully
from train.data import DataError
from train.evaluation.drawing import draw
from train.evaluation.markdown import to_markdown
from train.evaluation.measure import Evaluation, Measured, Model
from train.evaluation.page import to_page
from train.evaluation.sets import LIMIT_SEED, THIRTEEN
from train.evaluation.story import blocks, title
from train.run_file import git_commit
from train.strangers import SEED

JSON_FILE, TEXT_FILE, PAGE_FILE = "evaluation.json", "evaluation.md", "evaluation.html"
SCHEMA_VERSION = 1


def refuse_filled(out: Path) -> None:
    """Raise ``DataError`` where ``out`` is not an empty folder that exists or can be made."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise DataError(
            f"--out {out} is not an empty folder: a report is never mixed; choose another"
        )
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir():
        raise DataError(f"--out {out}: {above} is a file, expected a folder; choose another")
    if not os.access(above, os.W_OK):
        raise DataError(f"--out {out}: {above} may not be written to; choose another")


def write_report(measured: Measured, out: Path) -> Path:
    """Draw, and write every file into the new folder ``out``; returns the page."""
    drawings = draw(measured)
    conditions = _conditions(measured)
    story = blocks(measured, drawings, _facts(conditions, measured.evaluation))
    files = {drawing.file: drawing.content for drawing in drawings.values()}
    files |= {name: content for part in measured.parts for name, content in part.files.items()}
    page = to_page(title(measured), story, files)
    files |= {
        JSON_FILE: (to_json(measured, conditions) + "\n").encode(),
        TEXT_FILE: to_markdown(story).encode(),
        PAGE_FILE: page.encode(),
    }
    _write_folder(out, files)
    return out / PAGE_FILE


def to_json(measured: Measured, conditions: Mapping[str, Any]) -> str:
    """All numbers; shares are in [0, 1], null where there is none."""
    content = {"schema_version": SCHEMA_VERSION, **conditions, **asdict(measured.evaluation)}
    content |= {part.name: part.data for part in measured.parts}
    for shown, found in zip(content["realised"], measured.evaluation.realised, strict=True):
        shown["inside"] = found.inside
    return json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)


def _conditions(measured: Measured) -> dict[str, Any]:
    return {
        "bundle": _bundle(measured.model),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "device": str(measured.model.checkpoint.classifier.device),
        "threads": torch.get_num_threads(),
        "versions": {
            "oodgate": metadata.version("oodgate"),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "seeds": {
            "limit": LIMIT_SEED,
            THIRTEEN: SEED,
            "calibration_error": calibration_error.SEED,
            **{name: seed for part in measured.parts for name, seed in part.seeds.items()},
        },
    }


def _bundle(model: Model) -> dict[str, Any]:
    calibration = model.calibration
    return {
        "name": model.name,
        "version": model.version,
        "classes": list(model.checkpoint.class_labels),
        "mode": calibration.mode,
        "alpha": calibration.alpha,
        "delta": calibration.delta,
        "set_level": calibration.set_level,
        "fit_rows": calibration.table.column("split").to_pylist().count("fit"),
        "reference_size": calibration.reference_size,
        "rows_recorded": recorded_fully(model.training),
    }


def _facts(conditions: Mapping[str, Any], evaluation: Evaluation) -> dict[str, str]:
    bundle = conditions["bundle"]
    missing = "" if bundle["rows_recorded"] else "; rows of the models before it are not all known"
    return {
        "bundle": f"{bundle['name']}, version {bundle['version']}{missing}",
        "gate": (
            f"mode {bundle['mode']}, alpha {bundle['alpha']:g}, delta {bundle['delta']:g}, "
            f"{bundle['fit_rows']:,} rows to fit and {bundle['reference_size']:,} to rank among"
        ),
        "known images": evaluation.known.data,
        "strangers": "; ".join(dict.fromkeys(pair.data for pair in evaluation.pairs)) or "none",
        "seen rows": "exact copies alone are recognised, by content hash",
        "when": conditions["created"],
        "code": f"oodgate {conditions['versions']['oodgate']}, git commit "
        f"{conditions['git_commit'] or 'unknown'}",
        "libraries": f"torch {conditions['versions']['torch']}, "
        f"numpy {conditions['versions']['numpy']}",
        "device": f"{conditions['device']}, {conditions['threads']} threads",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in conditions["seeds"].items()),
    }


def _write_folder(out: Path, files: Mapping[str, bytes]) -> None:
    refuse_filled(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        for name, content in files.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        temporary.chmod(0o755)
        os.replace(temporary, out)  # over an empty folder too
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unwritable(out: Path, error: OSError) -> DataError:
    return DataError(f"--out {out} cannot be written ({error.strerror}): choose another")
