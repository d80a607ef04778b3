"""A model on disk: ``config.json`` (architecture, classes) and ``weights.safetensors``.

Plain data only, so that loading a file from elsewhere runs no code. Nothing here checks hashes:
that is the bundle's part, which hands over the very bytes it has checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from model.classifier import GenerativeClassifier
from model.config import FlowConfig
from model.image import InputSpec

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"
SCHEMA_VERSION = 1


class CheckpointError(ValueError):
    """A file of a model that is missing, damaged or of another version."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A classifier with the labels of its classes, in index order."""

    classifier: GenerativeClassifier
    class_labels: tuple[str, ...]

    @property
    def spec(self) -> InputSpec:
        """How an encoded image becomes this model's input."""
        config = self.classifier.config
        return InputSpec(shape=config.input_shape, levels=config.levels)


def config_bytes(config: FlowConfig, class_labels: tuple[str, ...]) -> bytes:
    """The content of ``config.json``."""
    data = {
        "schema_version": SCHEMA_VERSION,
        "flow": config.to_dict(),
        "classes": list(class_labels),
    }
    return json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n"


def weights_bytes(classifier: GenerativeClassifier) -> bytes:
    """The content of ``weights.safetensors``."""
    state = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    return save(state)


def save_model(folder: Path, checkpoint: Checkpoint) -> None:
    """Write both files into ``folder``, each by rename: a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    classifier = checkpoint.classifier
    write_atomic(folder / CONFIG_FILE, config_bytes(classifier.config, checkpoint.class_labels))
    write_atomic(folder / WEIGHTS_FILE, weights_bytes(classifier))


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(path)


def load_model(folder: Path) -> Checkpoint:
    """Read a model; raises ``CheckpointError`` naming the file and what is wrong with it."""
    try:
        config = (folder / CONFIG_FILE).read_bytes()
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}; expected a model") from error
    return parse_model(config, weights)


def parse_model(config: bytes, weights: bytes) -> Checkpoint:
    """A model from the contents of its two files, in evaluation mode on the CPU."""
    try:
        data = json.loads(config)
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {data['schema_version']}: expected {SCHEMA_VERSION}")
        classifier = GenerativeClassifier(FlowConfig.from_dict(data["flow"]))
        labels = tuple(str(label) for label in data["classes"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{CONFIG_FILE}: {error}") from error
    if len(labels) != classifier.config.n_classes:
        raise CheckpointError(
            f"{CONFIG_FILE}: {len(labels)} class labels for {classifier.config.n_classes} classes"
        )
    try:
        classifier.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{WEIGHTS_FILE}: does not fit {CONFIG_FILE}: {error}") from error
    for name, value in classifier.state_dict().items():
        if not value.isfinite().all():
            raise CheckpointError(f"{WEIGHTS_FILE}: {name} holds values that are no finite numbers")
    return Checkpoint(classifier=classifier.eval(), class_labels=labels)
