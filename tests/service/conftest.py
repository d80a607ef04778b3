"""The console command, run in this process, and runs to hold a model against."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.cli import main
from train.config import TrainConfig
from train.run import train_new

Run = Callable[..., tuple[int, str, str]]

QUICK = TrainConfig(recipe="digits", data="digits", epochs=1, batch_size=128, learning_rate=3e-3)


@pytest.fixture(scope="session")
def flow_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a plain flow, to compare with; read only."""
    out = tmp_path_factory.mktemp("flow") / "digits"
    assert train_new(replace(QUICK, beta=0.0), out).finished
    return out


@pytest.fixture(scope="session")
def resnet_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the ResNet baseline; read only."""
    out = tmp_path_factory.mktemp("resnet") / "digits"
    assert train_new(replace(QUICK, kind="resnet"), out).finished
    return out


@pytest.fixture
def oodgate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; gives exit status, standard output and error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["oodgate", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return code, out, err

    return run
