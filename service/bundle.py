"""The bundle: model, calibration and record of data, sealed by hashes; immutable, no pickle.

``manifest.json`` lists every file with its SHA-256 and size, ``manifest.sha256`` holds the
manifest's own. A bundle is written to a temporary sibling and renamed, so there is never half of
one; loading checks every hash on the very bytes that are then used. This finds corruption, not
forgery: whoever can rewrite a file can rewrite the hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from calibration import files as calibration_files
from calibration.calibration import Bound, Calibration, CalibrationError
from calibration.rows import RowRecord, RowsError
from model.checkpoint import Checkpoint, CheckpointError, parse_model
from model.image import InputSpec

MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
MODEL_CONFIG = "model/config.json"
MODEL_WEIGHTS = "model/weights.safetensors"
CALIBRATION_FILES = tuple(f"calibration/{name}" for name in calibration_files.FILES)
ROWS = "data/rows.bin"
HISTORY = "training/history.jsonl"
FILES = (MODEL_CONFIG, MODEL_WEIGHTS, *CALIBRATION_FILES, ROWS, HISTORY)
SCHEMA_VERSION = 2
#: What scores are computed in, and so what a calibration is good for.
DTYPE = "float32"


class BundleError(ValueError):
    """A bundle that cannot be trusted or found: names the file, what was expected and found."""


@dataclass(frozen=True, kw_only=True)
class FileSeal:
    """What a file must be: SHA-256 in hexadecimal, and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is in a bundle and where it comes from.

    ``preprocessing``, ``data``, ``training`` and ``metrics`` are plain JSON for people and audits;
    nothing is decided by them.
    """

    schema_version: int
    name: str
    created: str
    git_commit: str | None
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    levels: int
    dtype: str
    preprocessing: Mapping[str, Any]
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    files: Mapping[str, FileSeal]

    def to_bytes(self) -> bytes:
        """The content of ``manifest.json``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Parse; raises ``BundleError`` for another version or a missing field."""
        try:
            data = json.loads(content)
            if data["schema_version"] != SCHEMA_VERSION:
                raise ValueError(
                    f"schema_version {data['schema_version']}: expected {SCHEMA_VERSION}; made by "
                    "another version, so calibrate the checkpoint that it was made from again, or "
                    "install that version"
                )
            files = {path: FileSeal(**seal) for path, seal in data["files"].items()}
            shape = tuple(data["input_shape"])
            classes = tuple(data["classes"])
            return cls(**{**data, "files": files, "input_shape": shape, "classes": classes})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{MANIFEST}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded, verified bundle. ``version`` is the start of the manifest's SHA-256.

    ``history`` has the figures of each training epoch, in order; empty where no log was kept.
    """

    path: Path
    version: str
    manifest: Manifest
    checkpoint: Checkpoint
    calibration: Calibration
    rows: RowRecord
    history: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The model's name, as services and metrics show it."""
        return self.manifest.name

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.checkpoint.class_labels

    @property
    def spec(self) -> InputSpec:
        """How an encoded image becomes an input."""
        return self.checkpoint.spec

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read and verify; raises ``BundleError`` naming the first file that is not as sealed."""
        manifest, version = version_of(path)
        contents = verified_contents(path, manifest.files)
        try:
            checkpoint = _described(manifest, contents)
            return cls(
                path=path,
                version=version,
                manifest=manifest,
                checkpoint=checkpoint,
                calibration=_bound_calibration(contents, checkpoint.spec),
                rows=RowRecord.from_bytes(contents[ROWS], manifest.data["rows"]),
                history=_history(contents[HISTORY]),
            )
        except (CheckpointError, CalibrationError, RowsError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: {error}") from error


def version_of(path: Path) -> tuple[Manifest, str]:
    """A bundle's manifest and version, without its files; raises ``BundleError``."""
    content = _read(path, MANIFEST)
    digest = hashlib.sha256(content).hexdigest()
    if _read(path, SEAL) != _seal_line(digest):
        raise BundleError(
            f"{path}: {MANIFEST} and {SEAL} disagree: expected {digest} in {SEAL}; one of the "
            "two was changed or damaged, restore the bundle from its source"
        )
    return Manifest.from_bytes(content), digest[:12]


def seal(path: Path, manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> Bundle:
    """Write a bundle of ``contents`` at ``path`` and load it back, verified.

    ``manifest`` gives every field but ``schema_version`` and ``files``. Raises ``BundleError``
    where something exists at ``path`` already: a bundle is never overwritten.
    """
    files = {
        name: FileSeal(sha256=hashlib.sha256(contents[name]).hexdigest(), bytes=len(contents[name]))
        for name in FILES
    }
    sealed = Manifest(schema_version=SCHEMA_VERSION, files=files, **manifest).to_bytes()
    everything = {
        **contents,
        MANIFEST: sealed,
        SEAL: _seal_line(hashlib.sha256(sealed).hexdigest()),
    }
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for name, content in everything.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        temporary.chmod(0o755)
        bundle = Bundle.load(temporary)
        refuse_existing(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return replace(bundle, path=path)


def refuse_existing(path: Path) -> None:
    """Raise ``BundleError`` where there is something at ``path``, or a file above it."""
    if path.exists() or path.is_symlink():
        raise BundleError(f"{path} exists: a bundle is never overwritten; choose another --out")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise BundleError(f"{path}: {above} is a file, expected a folder; choose another --out")


def _seal_line(digest: str) -> bytes:
    return f"{digest}  {MANIFEST}\n".encode()


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder / name}: {error.strerror}; expected a bundle there") from error


def verified(folder: Path, name: str, files: Mapping[str, FileSeal]) -> bytes:
    """The bytes of one file; raises ``BundleError`` where they are not as ``files`` has sealed."""
    if name not in files:
        raise BundleError(f"{folder / MANIFEST}: lists no {name}; expected {', '.join(FILES)}")
    content, expected = _read(folder, name), files[name]
    found = FileSeal(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    if found != expected:
        raise BundleError(
            f"{folder / name} is not as sealed: expected {expected.bytes} bytes with SHA-256 "
            f"{expected.sha256}, found {found.bytes} with {found.sha256}; restore the bundle"
        )
    return content


def verified_contents(folder: Path, files: Mapping[str, FileSeal]) -> dict[str, bytes]:
    """Every file of a bundle, verified; without a training log, as older ones are, an empty one."""
    listed = [name for name in FILES if name in files or name != HISTORY]
    return {HISTORY: b""} | {name: verified(folder, name, files) for name in listed}


def _history(content: bytes) -> tuple[Mapping[str, Any], ...]:
    """The training log's lines; refused where one is no JSON object."""
    lines: list[Mapping[str, Any]] = []
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise BundleError(f"{HISTORY}, line {number}: {error}; expected JSON") from error
        if not isinstance(line, dict):
            raise BundleError(f"{HISTORY}, line {number}: found {line!r}, expected a JSON object")
        lines.append(line)
    return tuple(lines)


def _described(manifest: Manifest, contents: Mapping[str, bytes]) -> Checkpoint:
    """The model, refused where the manifest says something else of it."""
    checkpoint = parse_model(contents[MODEL_CONFIG], contents[MODEL_WEIGHTS])
    flow = checkpoint.classifier.config
    for name, found, expected in (
        ("classes", manifest.classes, checkpoint.class_labels),
        ("input_shape", manifest.input_shape, flow.input_shape),
        ("levels", manifest.levels, flow.levels),
        ("dtype", manifest.dtype, DTYPE),
        ("preprocessing", dict(manifest.preprocessing), checkpoint.spec.describe()),
    ):
        if found != expected:
            raise BundleError(
                f"{MANIFEST}: {name} {found!r}, but the model has {expected!r}: calibrate the "
                "model again"
            )
    return checkpoint


def bound_to(weights: bytes, spec: InputSpec) -> Bound:
    """What a calibration of a model belongs to: its weights file, its preprocessing, the dtype."""
    return Bound(
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        preprocessing_sha256=spec.digest(),
        dtype=DTYPE,
    )


def _bound_calibration(contents: Mapping[str, bytes], spec: InputSpec) -> Calibration:
    """The calibration, refused where it was fitted for another model, preprocessing or dtype."""
    names = zip(calibration_files.FILES, CALIBRATION_FILES, strict=True)
    calibration = calibration_files.from_files({name: contents[path] for name, path in names})
    expected = asdict(bound_to(contents[MODEL_WEIGHTS], spec))
    for name, found in asdict(calibration.bound).items():
        if found != expected[name]:
            raise BundleError(
                f"{CALIBRATION_FILES[0]} was fitted for {name} {found}, but the bundle has "
                f"{expected[name]}: calibrate again"
            )
    return calibration
