"""The console command, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from service.cli import main

Run = Callable[..., tuple[int, str, str]]


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
