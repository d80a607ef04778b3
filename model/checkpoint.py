"""A model on disk: ``config.json`` (architecture, classes) and ``weights.safetensors``.

Plain data only, so that loading a file from elsewhere runs no code. Nothing here checks hashes:
that is the bundle's part, which hands over the very bytes it has checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from model.classifier import GenerativeClassifier
from model.config import FlowConfig
from model.image import InputSpec
from model.size import flow_values
from model.transforms import Permutation

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"
SCHEMA_VERSION = 1

#: What stands in ``config.json`` instead of ``flow`` where the model is of ``train.baselines``.
BASELINE_KIND = "resnet"
A_BASELINE = (
    "a ResNet baseline, which has no density and is for comparisons (oodgate calibrate --baseline "
    "FOLDER)"
)


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


def config_bytes(architecture: Mapping[str, Any], class_labels: tuple[str, ...]) -> bytes:
    """The content of ``config.json``; ``architecture``: a configuration under its kind's name."""
    data = {"schema_version": SCHEMA_VERSION, **architecture, "classes": list(class_labels)}
    return json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n"


def weights_bytes(module: nn.Module) -> bytes:
    """The content of ``weights.safetensors``."""
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    return save(state)


def save_model(folder: Path, checkpoint: Checkpoint) -> None:
    """Write both files into ``folder``, each by rename: a reader never sees half a file."""
    architecture = {"flow": checkpoint.classifier.config.to_dict()}
    write_files(folder, architecture, checkpoint.class_labels, checkpoint.classifier)


def write_files(
    folder: Path,
    architecture: Mapping[str, Any],
    class_labels: tuple[str, ...],
    classifier: nn.Module,
) -> None:
    """Write a model of any kind; ``architecture``: its configuration under the kind's name."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / CONFIG_FILE, config_bytes(architecture, class_labels))
    write_atomic(folder / WEIGHTS_FILE, weights_bytes(classifier))


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(path)


def load_model(folder: Path) -> Checkpoint:
    """Read a model; raises ``CheckpointError`` naming the file and what is wrong with it."""
    config, weights = read_model(folder)
    try:
        return parse_model(config, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}/{error}") from error


def read_model(folder: Path) -> tuple[bytes, bytes]:
    """The contents of a model's two files; raises ``CheckpointError`` where one is missing."""
    try:
        return (folder / CONFIG_FILE).read_bytes(), (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}; expected a model") from error


def parse_model(config: bytes, weights: bytes) -> Checkpoint:
    """A model from the contents of its two files, in evaluation mode on the CPU.

    Nothing is built before the weights are known to be as many as the configuration asks for.
    """
    data = parse_config(config)
    if BASELINE_KIND in data:
        raise CheckpointError(f"{CONFIG_FILE}: {A_BASELINE}: expected a flow")
    try:
        flow = FlowConfig.from_dict(data.get("flow", {}))
    except ValueError as error:
        raise CheckpointError(f"{CONFIG_FILE}: {error}") from error
    labels = parse_labels(data, flow.n_classes)
    state = parse_weights(weights, flow_values(flow))
    classifier = GenerativeClassifier(flow)
    load_fitting(classifier, state)
    _check_permutations(classifier)
    return Checkpoint(classifier=classifier.eval(), class_labels=labels)


def _check_permutations(classifier: GenerativeClassifier) -> None:
    """Another index than a permutation would make a density of what is none, or fail in use."""
    for name, module in classifier.flow.named_modules():
        if isinstance(module, Permutation):
            try:
                module.check()
            except ValueError as error:
                raise CheckpointError(f"{WEIGHTS_FILE}: flow.{name}: {error}") from error


def parse_config(content: bytes) -> dict[str, Any]:
    """The object in ``config.json``, of this schema version."""
    try:
        data = json.loads(content)
    except RecursionError as error:
        raise CheckpointError(f"{CONFIG_FILE}: nested too deeply; expected a model's") from error
    except ValueError as error:
        raise CheckpointError(f"{CONFIG_FILE}: {error}; expected JSON") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{CONFIG_FILE}: found {type(data).__name__}, expected an object")
    found = data.get("schema_version")
    if found != SCHEMA_VERSION:
        raise CheckpointError(f"{CONFIG_FILE}: schema_version {found}: expected {SCHEMA_VERSION}")
    return data


def parse_labels(data: Mapping[str, Any], n_classes: int) -> tuple[str, ...]:
    """The names of the classes in index order: as many as there are, different, none empty."""
    labels = data.get("classes")
    if not isinstance(labels, list) or not all(isinstance(x, str) and x for x in labels):
        raise CheckpointError(f"{CONFIG_FILE}: classes: expected a list of names, none empty")
    if len(labels) != n_classes:
        raise CheckpointError(
            f"{CONFIG_FILE}: {len(labels)} class labels for {n_classes} classes: expected one each"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise CheckpointError(f"{CONFIG_FILE}: two classes are {twice!r}: expected different names")
    return tuple(labels)


def parse_weights(content: bytes, expected: int) -> dict[str, Tensor]:
    """The tensors of ``weights.safetensors``, refused where they are not ``expected`` values."""
    try:
        state = load(content)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise CheckpointError(f"{WEIGHTS_FILE}: {said}; expected whole safetensors") from error
    found = sum(value.numel() for value in state.values())
    if found != expected:
        raise CheckpointError(
            f"{WEIGHTS_FILE}: does not fit {CONFIG_FILE}: holds {found:,} values, expected "
            f"{expected:,}"
        )
    return state


def load_fitting(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors into ``module``; refused where name or shape differ, or a value is infinite."""
    own = module.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found, expected = (
            tuple(of[name].shape) if name in of else "no such tensor" for of in (state, own)
        )
        if found != expected:
            raise CheckpointError(
                f"{WEIGHTS_FILE}: does not fit {CONFIG_FILE}: {name}: found {found}, expected "
                f"{expected}"
            )
    module.load_state_dict(state)
    for name, value in module.state_dict().items():
        if not value.isfinite().all():
            raise CheckpointError(f"{WEIGHTS_FILE}: {name} holds values that are no finite numbers")
