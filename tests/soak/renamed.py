"""A bundle under another name, so that one service can have it several times."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from service.bundle import Bundle, seal, verified_contents


def renamed(source: Path, out: Path, name: str) -> Path:
    """Seal the bundle ``source`` as ``name`` at ``out``; returns ``out``."""
    bundle = Bundle.load(source)
    contents = verified_contents(source, bundle.manifest.files)
    manifest = asdict(bundle.manifest) | {"name": name}
    del manifest["schema_version"], manifest["files"]
    seal(out, manifest, contents)
    return out
