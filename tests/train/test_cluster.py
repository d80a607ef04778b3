"""Whether a Ray cluster answers, found before Ray is asked."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.cluster import ClusterError, check_address
from train.config import TrainConfig
from train.distributed import train_on_ray

TWO = TrainConfig(recipe="digits", data="digits", epochs=1, workers=2)


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With no note of a Ray that was started here."""
    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_TMPDIR": str(tmp_path)})


@pytest.fixture
def heard() -> Iterator[str]:
    """An address where something answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that is taken, and where nothing answers."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


def note(folder: Path, address: str) -> None:
    """What ``ray start`` leaves."""
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(f"{address}\n")


def test_an_address_that_answers(heard: str, tmp_path: Path) -> None:
    check_address(heard)
    check_address(f"ray://{heard}")
    check_address("local")
    check_address("auto")
    note(tmp_path, heard)
    check_address("auto")


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_an_address_where_nothing_answers(silent: str, form: str) -> None:
    address = form.format(silent)
    with pytest.raises(ClusterError, match=f"^cannot reach Ray at {address}: .*refused; start it"):
        check_address(address)


def test_a_ray_that_is_gone(silent: str, tmp_path: Path) -> None:
    note(tmp_path, silent)
    with pytest.raises(ClusterError, match=f"cannot reach Ray at auto, which is {silent}: "):
        check_address("auto")


@pytest.mark.parametrize("name", ["nohost.invalid", "a..b", "x" * 64 + ".invalid"])
def test_a_name_that_nothing_has(name: str) -> None:
    with pytest.raises(ClusterError, match=f"cannot reach Ray at {name}:1: "):
        check_address(f"{name}:1")


@pytest.mark.parametrize("address", ["here", "here:x", "here:99999", ":1", "http://here:1", "[1:2"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ClusterError, match=r"expected host:port, ray://host:port or auto"):
        check_address(address)


@pytest.mark.parametrize("named", ["--address", "RAY_ADDRESS"])
def test_nothing_is_written_or_imported_before(
    silent: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    os.environ["RAY_ADDRESS"] = silent if named == "RAY_ADDRESS" else "elsewhere:1"
    with pytest.raises(ClusterError, match=f"cannot reach Ray at {silent}: "):
        train_on_ray(TWO, tmp_path / "run", address=silent if named == "--address" else None)
    assert not (tmp_path / "run").exists()
