"""A bundle: whole or refused by name, never overwritten, no pickle in it."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from calibration.table import table_to_bytes
from model.image import InputSpec
from service import bundle as rooms
from service.bundle import FILES, MANIFEST, SEAL, Bundle, BundleError, Manifest, seal

EVERY_FILE = (MANIFEST, SEAL, *FILES)
PLAIN = (".json", ".jsonl", ".sha256", ".safetensors", ".parquet", ".bin")


@pytest.fixture
def copied(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "copied"))


def reseal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Write hashes that fit the files: what a mistake, or somebody with a purpose, would do."""
    data = json.loads((folder / MANIFEST).read_bytes())
    for name in FILES:
        content = (folder / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        data["files"][name] = {"sha256": sha256, "bytes": len(content)}
    change(data)
    written = json.dumps(data).encode()
    (folder / MANIFEST).write_bytes(written)
    (folder / SEAL).write_text(f"{hashlib.sha256(written).hexdigest()}  {MANIFEST}\n")


def test_the_files_are_those_of_the_contract(bundle_dir: Path) -> None:
    found = {str(path.relative_to(bundle_dir)) for path in bundle_dir.rglob("*") if path.is_file()}
    assert found == set(EVERY_FILE)


def test_the_version_is_the_start_of_the_manifest_s_hash(bundle: Bundle) -> None:
    digest = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    assert bundle.version == digest[:12]
    assert (bundle.path / SEAL).read_text() == f"{digest}  {MANIFEST}\n"  # sha256sum -c reads it


def test_the_manifest_says_where_all_comes_from(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.name == bundle.name == "digits"
    assert manifest.classes == bundle.class_labels == tuple("0123456789")
    assert (manifest.input_shape, manifest.levels) == ((1, 8, 8), 17)
    assert manifest.data["rows"] == {"train": 1007, "fit": 215, "cal": 215}
    assert manifest.data["held_out_from_training"] is True
    assert manifest.training["config"]["recipe"] == "digits"
    assert set(manifest.metrics) >= {"accuracy", "bits_per_dim", "nll", "ece_low", "ece_high"}
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@pytest.mark.parametrize("name", EVERY_FILE)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.37, 0.5, 0.99, 1.0])
def test_one_flipped_byte_is_refused_by_name(copied: Path, name: str, share: float) -> None:
    content = bytearray((copied / name).read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        Bundle.load(copied)


@pytest.mark.parametrize("name", EVERY_FILE)
@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "empty", "folder"])
def test_other_damage_is_refused_by_name(copied: Path, name: str, damage: str) -> None:
    path = copied / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        kept = {"cut": content[:-1], "longer": content + b"\n", "empty": b""}
        path.write_bytes(kept[damage])
    with pytest.raises(BundleError, match=name):
        Bundle.load(copied)


@pytest.mark.parametrize("name", ["weights_sha256", "preprocessing_sha256", "dtype"])
def test_another_model_s_calibration_is_refused(copied: Path, bundle: Bundle, name: str) -> None:
    """It is bound to the weights, the preprocessing and the dtype that it was fitted for."""
    path = copied / rooms.CALIBRATION_FILES[0]
    record = json.loads(path.read_bytes())
    ours = asdict(bundle.calibration.bound)[name]
    assert record[name] == ours
    path.write_text(json.dumps(record | {name: "alien"}))
    reseal(copied)
    with pytest.raises(BundleError) as refused:
        Bundle.load(copied)
    said = f"calibration/calibration.json was fitted for {name} alien, but the bundle has {ours}"
    assert f"{said}: calibrate again" in str(refused.value)


def test_what_a_calibration_is_bound_to(bundle: Bundle) -> None:
    weights = (bundle.path / rooms.MODEL_WEIGHTS).read_bytes()
    bound = rooms.bound_to(weights, bundle.spec)
    assert bound == bundle.calibration.bound
    assert bound.weights_sha256 == bundle.manifest.files[rooms.MODEL_WEIGHTS].sha256
    assert bound.preprocessing_sha256 == InputSpec(shape=(1, 8, 8), levels=17).digest()
    assert bound.dtype == bundle.manifest.dtype == "float32"
    assert next(bundle.checkpoint.classifier.parameters()).dtype == torch.float32


def test_a_code_that_treats_images_otherwise_is_refused(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First what the manifest says, then, where somebody mends that, what calibration saw."""
    nearest = {"resize": "stretched to 8 x 8, nearest"}
    monkeypatch.setattr(InputSpec, "describe", lambda _: nearest)
    with pytest.raises(BundleError, match=r"manifest.json: preprocessing .*calibrate the model"):
        Bundle.load(copied)
    reseal(copied, lambda data: data.update(preprocessing=nearest))
    with pytest.raises(BundleError, match=r"was fitted for preprocessing_sha256 .*calibrate again"):
        Bundle.load(copied)


def test_other_weights_are_refused(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copied / rooms.MODEL_WEIGHTS)
    save_file({name: value + 1e-3 for name, value in state.items()}, copied / rooms.MODEL_WEIGHTS)
    reseal(copied)
    with pytest.raises(BundleError, match="calibrate again"):
        Bundle.load(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema_version=3), "schema_version 3: expected 2"),
        (
            lambda data: data.update(schema_version=1),
            "schema_version 1: expected 2; made by another version",
        ),
        (lambda data: data.update(dtype="bfloat16"), "dtype 'bfloat16', but .*calibrate the model"),
        (lambda data: data.pop("created"), "created"),
        (lambda data: data.update(surprise=1), "surprise"),
        (lambda data: data["files"].pop(rooms.ROWS), "lists no data/rows.bin"),
        (lambda data: data.update(files=[]), "manifest.json"),
        (lambda data: data["data"].pop("rows"), "rows"),
        (lambda data: data["data"].update(rows=None), "counts are None"),
        (lambda data: data["data"]["rows"].update(cal=1), "row hashes"),
        (lambda data: data.update(classes=["a", "b"]), "classes"),
    ],
)
def test_a_manifest_that_does_not_fit(
    copied: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    reseal(copied, change)
    with pytest.raises(BundleError, match=message):
        Bundle.load(copied)


def test_the_training_log_has_a_line_an_epoch(bundle: Bundle) -> None:
    assert [line["epoch"] for line in bundle.history] == [1, 2, 3, 4]
    assert all(set(line) >= {"train", "validation", "seconds"} for line in bundle.history)


def test_a_bundle_without_a_training_log(copied: Path) -> None:
    (copied / rooms.HISTORY).write_bytes(b"")
    reseal(copied)
    assert Bundle.load(copied).history == ()
    reseal(copied, lambda data: data["files"].pop(rooms.HISTORY))
    assert Bundle.load(copied).history == ()


@pytest.mark.parametrize("line", ["{", "3", "\xff"])
def test_a_training_log_that_is_none(copied: Path, line: str) -> None:
    (copied / rooms.HISTORY).write_bytes(b'{"epoch": 1}\n' + line.encode("latin-1"))
    reseal(copied)
    with pytest.raises(BundleError, match=rf"{rooms.HISTORY}, line 2"):
        Bundle.load(copied)


def test_loading_runs_no_pickle(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a bundle was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    assert Bundle.load(bundle_dir).name == "digits"


def test_no_file_is_a_pickle(bundle_dir: Path) -> None:
    for name in EVERY_FILE:
        content = (bundle_dir / name).read_bytes()
        assert Path(name).suffix in PLAIN
        assert not content.startswith((b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"))
        assert b"ctorch\n" not in content
        assert b"cnumpy\n" not in content


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {name: (bundle.path / name).read_bytes() for name in FILES}


def fields(bundle: Bundle) -> dict[str, Any]:
    data = asdict(bundle.manifest)
    return {key: data[key] for key in data if key not in ("schema_version", "files")}


def test_sealing_gives_what_loading_gives(bundle: Bundle, tmp_path: Path) -> None:
    sealed = seal(tmp_path / "deep" / "new", fields(bundle), contents(bundle))
    assert sealed.version == bundle.version
    assert sealed.path == tmp_path / "deep" / "new"
    assert [path.name for path in sealed.path.parent.iterdir()] == ["new"]
    assert sealed.path.stat().st_mode & 0o777 == 0o755
    assert table_to_bytes(sealed.calibration.table) == table_to_bytes(bundle.calibration.table)


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "dangling link"])
def test_nothing_is_ever_overwritten(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "taken"
    if kind == "file":
        out.write_text("mine")
    elif kind == "dangling link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
    if kind == "folder":
        (out / "mine").write_text("mine")
    with pytest.raises(BundleError, match="never overwritten"):
        seal(out, fields(bundle), contents(bundle))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_failed_seal_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    damaged = contents(bundle) | {rooms.MODEL_WEIGHTS: b"junk"}
    with pytest.raises(BundleError):
        seal(tmp_path / "new", fields(bundle), damaged)
    assert not list(tmp_path.iterdir())
