"""BUNDLE: how every command names a model, by path or by name."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from model.checkpoint import A_BASELINE, BASELINE_KIND, CONFIG_FILE, CheckpointError, parse_config
from service.bundle import MANIFEST, BundleError, Manifest

SHIPPED = Path(__file__).resolve().parent.parent / "bundles"


def find_bundle(name: str, folder: Path | None = None) -> Path:
    """The folder that ``name`` means: a path, else looked up by the manifest's name.

    Searched: ``folder``, then ``$OODGATE_BUNDLES``, then the bundles that ship; of several
    versions in one place the newest ``created`` wins. Raises ``BundleError`` saying where it
    looked.
    """
    if (Path(name) / MANIFEST).is_file():
        return Path(name)
    if Path(name).exists():
        instead = _instead(Path(name))
        raise BundleError(f"{name} is no bundle{instead}: expected a folder with {MANIFEST}")
    places = [folder, _from_environment(), SHIPPED]
    searched = [place for place in places if place is not None]
    for place in searched:
        manifests = {path: _manifest(path) for path in _bundles_in(place)}
        created = {path: m.created for path, m in manifests.items() if m.name == name}
        if created:
            return max(created, key=created.__getitem__)
    where = ", ".join(str(place) for place in searched)
    raise BundleError(f"no bundle {name!r}: no such path, and none of that name in {where}")


def _instead(path: Path) -> str:
    """What a folder is where it can be told."""
    for folder in (path / "model", path):
        with suppress(OSError, CheckpointError):
            if BASELINE_KIND in parse_config((folder / CONFIG_FILE).read_bytes()):
                return f" but {A_BASELINE}"
            return ", but a checkpoint: make it one by oodgate calibrate"
    return ""


def _from_environment() -> Path | None:
    value = os.environ.get("OODGATE_BUNDLES")
    return Path(value) if value else None


def _bundles_in(folder: Path) -> list[Path]:
    """Not those whose name begins with a dot: they are being written."""
    return sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}"))


def _manifest(path: Path) -> Manifest:
    try:
        return Manifest.from_bytes((path / MANIFEST).read_bytes())
    except (BundleError, OSError) as error:
        raise BundleError(f"{path}: {error}") from error
