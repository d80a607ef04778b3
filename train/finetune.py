"""Fine-tuning: a trained model as the beginning of a run, for other classes or other settings.

What the flow knows of images is kept. Class means are kept where classes are the same; those of
other classes begin equidistant, since the trained ones say nothing of them. Of a bundle's seal only
the model's two files are checked here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointError,
    parse_model,
    read_model,
)
from model.classifier import GenerativeClassifier
from model.config import FlowConfig
from train.ancestor import MANIFEST, check_sealed, model_folder, rows_recorded
from train.run_file import read_run


def fine_tuned(
    source: Path,
    flow: FlowConfig,
    class_labels: Sequence[str],
    *,
    leave_out: Sequence[str] = (),
) -> GenerativeClassifier:
    """A classifier of ``class_labels`` and ``flow``'s dropout on the trained flow in ``source``.

    ``source`` is a bundle or a checkpoint; the architecture is its own. Its class means are kept
    where ``class_labels`` and the kind of means are the same, in their order. Raises
    ``CheckpointError`` where it is none, is not as sealed, its images are of another shape, or it
    knows a class of ``leave_out``.
    """
    trained = _load_sealed(source)
    seen = [name for name in leave_out if name in trained.class_labels]
    if seen:
        raise CheckpointError(
            f"{source} was trained on {seen[:5]}, which are to be left out: begin with a model "
            "that does not know them, or with none"
        )
    known = trained.classifier.config
    if (known.input_shape, known.levels) != (flow.input_shape, flow.levels):
        raise CheckpointError(
            f"{source} is a model of {known.input_shape} images of {known.levels} levels, the "
            f"recipe's are {flow.input_shape} of {flow.levels}: choose the recipe it was trained by"
        )
    kept = ("n_classes", "dropout", "mu_init", "means", "means_rank")
    try:
        config = replace(known, **{name: getattr(flow, name) for name in kept})
    except ValueError as error:
        raise CheckpointError(
            f"{source}: {error}; choose the recipe it was trained by, or fewer classes"
        ) from error
    classifier = GenerativeClassifier(config)
    classifier.flow.load_state_dict(trained.classifier.flow.state_dict())
    same_means = (known.means, known.means_rank) == (config.means, config.means_rank)
    if same_means and trained.class_labels == tuple(class_labels):
        classifier.class_means.load_state_dict(trained.classifier.class_means.state_dict())
    return classifier


def provenance(source: Path) -> dict[str, Any]:
    """What a model is known by wherever it lies: ``weights_sha256``; a bundle's name and version.

    ``name`` and ``version`` are None for a checkpoint. ``seconds`` that it was trained, with those
    of the model that it began with itself; None where nothing says so. ``rows_recorded``: whether
    all rows that it comes from are known.
    """
    origin: dict[str, Any] = {"name": None, "version": None}
    content = _manifest(source)
    if content is not None:
        name = _parsed(source, content).get("name")
        origin = {"name": name, "version": hashlib.sha256(content).hexdigest()[:12]}
    weights = read_model(model_folder(source))[1]
    digest = hashlib.sha256(weights).hexdigest()
    return {
        **origin,
        "weights_sha256": digest,
        "seconds": _seconds(source, content),
        "rows_recorded": rows_recorded(source),
    }


def _seconds(source: Path, manifest: bytes | None) -> float | None:
    try:
        if manifest is not None:
            training = _parsed(source, manifest)["training"]
        else:
            training = read_run(model_folder(source).absolute().parent)
        before = training["init"]["seconds"] if training.get("init") else 0.0
        return float(training["progress"]["seconds"] + before)
    except (
        CheckpointError,
        AttributeError,
        KeyError,
        TypeError,
    ):  # a model alone, or of an earlier version
        return None


def _load_sealed(source: Path) -> Checkpoint:
    """The model in ``source``; of a bundle, from the very bytes that are as its manifest says."""
    folder = model_folder(source)
    contents = read_model(folder)
    manifest = _manifest(source)
    if manifest is not None:
        said = _parsed(source, manifest)
        for name, content in zip((CONFIG_FILE, WEIGHTS_FILE), contents, strict=True):
            check_sealed(folder / name, content, said, f"model/{name}")
    try:
        return parse_model(*contents)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}/{error}") from error


def _manifest(source: Path) -> bytes | None:
    """The bundle's manifest, also where ``source`` is the model inside of one."""
    path = model_folder(source).absolute().parent / MANIFEST
    return path.read_bytes() if path.is_file() else None


def _parsed(source: Path, manifest: bytes) -> dict[str, Any]:
    try:
        data = json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{source}: {MANIFEST}: {error}; restore the bundle") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{source}: {MANIFEST}: expected an object; restore the bundle")
    return data
