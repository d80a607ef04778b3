"""Ctrl-C before a command has begun its work: one line and status 130, wherever it comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Ctrl-C at the moment when a module is about to be imported.
INTERRUPTED_AT = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from service.cli import main
sys.argv = ["oodgate", "score", "digits", "--data", "digits", "--out", "out", "--local"]
main()
"""


@pytest.mark.parametrize(
    "module",
    ["typer", "service.cli.calibrate", "typer._adapters", "service.batch.job_error", "torch"],
)
def test_one_line_while_modules_are_imported(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT.format(module=module)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")
