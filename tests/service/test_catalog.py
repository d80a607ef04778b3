"""How a BUNDLE is named: by path, or by name in one of three places."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from service import catalog
from service.bundle import MANIFEST, SEAL, BundleError
from service.catalog import find_bundle


@pytest.fixture(autouse=True)
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SHIPPED", tmp_path / "shipped")
    monkeypatch.delenv("OODGATE_BUNDLES", raising=False)


def put(
    source: Path, target: Path, name: str, created: str = "2026-01-01T00:00:00.000000+00:00"
) -> Path:
    """A copy under another name and date."""
    shutil.copytree(source, target)
    data = json.loads((target / MANIFEST).read_bytes()) | {"name": name, "created": created}
    content = json.dumps(data).encode()
    (target / MANIFEST).write_bytes(content)
    (target / SEAL).write_text(f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n")
    return target


def test_by_path(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_bundle(str(bundle_dir)) == bundle_dir
    monkeypatch.chdir(bundle_dir.parent)
    assert find_bundle(bundle_dir.name) == Path(bundle_dir.name)


def test_by_name_in_the_first_place_that_has_it(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = put(bundle_dir, tmp_path / "shipped" / "a", "m")
    assert find_bundle("m") == shipped
    from_environment = put(bundle_dir, tmp_path / "environment" / "a", "m")
    monkeypatch.setenv("OODGATE_BUNDLES", str(tmp_path / "environment"))
    assert find_bundle("m") == from_environment
    given = put(bundle_dir, tmp_path / "given" / "a", "m")
    assert find_bundle("m", tmp_path / "given") == given
    shutil.rmtree(tmp_path / "given")
    assert find_bundle("m", tmp_path / "given") == from_environment


def test_the_newest_of_several(bundle_dir: Path, tmp_path: Path) -> None:
    for folder, month in (("b", "03"), ("c", "11"), ("a", "07")):
        created = f"2026-{month}-01T00:00:00.000000+00:00"
        put(bundle_dir, tmp_path / folder, "m", created)
    put(bundle_dir, tmp_path / "d", "other", "2027-01-01T00:00:00.000000+00:00")
    assert find_bundle("m", tmp_path) == tmp_path / "c"


def test_one_that_is_being_written_is_not_found(bundle_dir: Path, tmp_path: Path) -> None:
    put(bundle_dir, tmp_path / ".half-abc", "m", "2027-01-01T00:00:00.000000+00:00")
    whole = put(bundle_dir, tmp_path / "whole", "m")
    assert find_bundle("m", tmp_path) == whole


def test_baselines_beside_bundles_are_none(bundle_dir: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baselines" / "m"
    (baseline / "model").mkdir(parents=True)
    (baseline / "run.json").write_text("{}")
    whole = put(bundle_dir, tmp_path / "whole", "m")
    assert find_bundle("m", tmp_path) == whole
    for name in (baseline, tmp_path / "baselines"):
        with pytest.raises(BundleError, match="is no bundle"):
            find_bundle(str(name))
    with pytest.raises(BundleError, match="no bundle 'baselines'"):
        find_bundle("baselines", tmp_path)


def test_a_damaged_neighbour_is_named(bundle_dir: Path, tmp_path: Path) -> None:
    put(bundle_dir, tmp_path / "good", "m")
    (put(bundle_dir, tmp_path / "bad", "m") / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match=r"bad: manifest\.json"):
        find_bundle("m", tmp_path)


def test_what_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"no bundle 'm'.*{tmp_path}/given, {tmp_path}/shipped"):
        find_bundle("m", tmp_path / "given")


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: expected a folder with manifest\.json"):
        find_bundle(str(tmp_path))
