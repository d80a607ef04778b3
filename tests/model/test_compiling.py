"""Where there is no C++ compiler, ``torch.compile`` is refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.compiling import CompilerError, check_compiler

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_compiler() -> None:
    """In a process of its own, since torch looks for one at import."""
    found = subprocess.run(
        [sys.executable, "-m", "model.compiling"],
        cwd=ROOT,
        env={**os.environ, "CXX": "/nowhere/c++"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    last = found.stderr.splitlines()[-1]
    assert last.startswith("torch.compile on cpu fails (No working C++ compiler found")
    assert last.endswith("or leave --compile out")


def test_whatever_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(function: object) -> object:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(CompilerError, match=r"^torch.compile on cpu fails \(first line\): [^\n]*$"):
        check_compiler(torch.device("cpu"))
