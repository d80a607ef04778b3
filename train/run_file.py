"""``run.json``: what a training run wrote of itself, checked once when it is read.

A run of an older version, or a damaged file, is refused here with one line; what passes can be
asked for its settings and its architecture without further ado.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointError, write_atomic
from model.config import FlowConfig
from train.baselines import ResNetConfig
from train.config import TrainConfig

RUN_FILE = "run.json"
#: Content hashes of the training and held-out rows, counted in ``run.json``.
ROWS_FILE = "rows.bin"
SCHEMA_VERSION = 1
#: What follows the commit of a checkout that was changed.
CHANGES = "+changes"

#: What everything that reads a run relies on.
PARTS = {"config": dict, "architecture": dict, "classes": list, "rows": dict}
FIGURES = {"steps": int, "seconds": int | float, "last_epoch": dict}


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a checkpoint; raises ``CheckpointError`` where there is none of this version.

    ``run_config`` and ``run_architecture`` take what this returns.
    """
    path = folder / RUN_FILE
    try:
        run = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a training run ({error})") from error
    try:
        _check(run)
        run_architecture(run, run_config(run))
    except ValueError as error:
        raise CheckpointError(
            f"{path}: not a training run of this version ({error}): start a new run"
        ) from error
    return dict(run)


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Replace ``run.json``."""
    content = json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / RUN_FILE, content.encode() + b"\n")


def run_config(run: Mapping[str, Any]) -> TrainConfig:
    """The settings of a run; what an older version did not have takes its default."""
    return TrainConfig.from_dict(run["config"])


def run_architecture(run: Mapping[str, Any], config: TrainConfig) -> FlowConfig | ResNetConfig:
    """What a run trains; ``config``: its settings."""
    kind = ResNetConfig if config.kind == "resnet" else FlowConfig
    return kind.from_dict(run["architecture"])


def _check(run: Any) -> None:
    if not isinstance(run, dict):
        raise ValueError(f"found {type(run).__name__}, expected an object")
    if run.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"schema_version {run.get('schema_version')}: expected {SCHEMA_VERSION}")
    _expect_parts(run, PARTS)
    progress = run.get("progress", {})
    if not isinstance(progress, dict):
        raise ValueError(f"progress {progress!r}: expected an object")
    if progress.get("finished"):
        _expect_parts(progress, FIGURES)


def _expect_parts(data: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    for name, kind in parts.items():
        if not isinstance(data.get(name), kind):
            raise ValueError(f"{name}: {'found another kind' if name in data else 'not there'}")


def git_commit() -> str | None:
    """The commit of the code that runs, with "+changes" where the checkout differs from it."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (CHANGES if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
