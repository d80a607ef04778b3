"""The admin key that a service leaves to its user: who can read it, and where it is not left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service import admin_key
from service.keys import Keys
from service.startup import StartupError


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / f"oodgate-{os.getuid()}"


def test_a_key_is_found_by_its_port_and_by_this_user_alone(runtime: Path) -> None:
    files = {port: admin_key.create(port) for port in (8000, 8001)}
    keys = {port: admin_key.find(port) for port in files}
    assert len(set(keys.values())) == 2
    assert admin_key.find(8002) is None
    assert runtime.stat().st_mode & 0o777 == 0o700
    for port, file in files.items():
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent == runtime
        opened, key = Keys(file, "OODGATE_KEYS_OF_NO_TEST"), keys[port]
        assert key is not None
        assert opened.accepts(key)


def test_each_service_has_a_key_of_its_own(runtime: Path) -> None:
    file = admin_key.create(8000)
    file.chmod(0o644)
    first = admin_key.find(8000)
    admin_key.create(8000)
    assert admin_key.find(8000) != first
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o770, 0o777])
def test_a_folder_that_others_can_enter_is_refused(mode: int, runtime: Path) -> None:
    runtime.mkdir()
    runtime.chmod(mode)
    with pytest.raises(StartupError, match=r"is not this user's alone.*remove it, or pass --admin"):
        admin_key.create(8000)
    assert list(runtime.iterdir()) == []


def test_a_link_is_not_followed(runtime: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    runtime.symlink_to(elsewhere)
    with pytest.raises(StartupError, match="is not this user's alone"):
        admin_key.create(8000)
    assert list(elsewhere.iterdir()) == []


def test_a_folder_of_another_user_is_refused(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin_key.create(8000)
    monkeypatch.setattr(admin_key, "_folder", lambda: runtime)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(StartupError, match="is not this user's alone"):
        admin_key.create(8000)


def test_a_link_in_the_place_of_the_key_is_replaced(runtime: Path, tmp_path: Path) -> None:
    runtime.mkdir(mode=0o700)
    (runtime / "8000.key").symlink_to(tmp_path / "target")
    file = admin_key.create(8000)
    assert not file.is_symlink()
    assert not (tmp_path / "target").exists()


def test_a_place_that_cannot_be_written_is_worded(runtime: Path) -> None:
    runtime.write_text("a file")
    with pytest.raises(StartupError, match=r"the admin key cannot be kept: .*File exists"):
        admin_key.create(8000)
    assert admin_key.find(8000) is None
