"""Environments of their own for stock clients of the Open Inference Protocol.

``python -m tests.clients.environments`` builds each ``.venv/clients/NAME`` that is missing or was
made of another ``requirements-NAME.txt``. They stay apart because the clients pin protobuf below
the version that the service's generated code needs.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("triton", "kserve", "schemathesis")


def python(name: str) -> Path:
    """The interpreter of one environment, built or not."""
    return _folder(name) / "bin" / "python"


def is_built(name: str) -> bool:
    """Whether the environment holds what its file of requirements says."""
    stamp = _stamp(name)
    return stamp.is_file() and stamp.read_text() == _wanted(name)


def build(name: str) -> None:
    """Make it anew; the stamp is written last, so an interrupted build is begun again."""
    folder = _folder(name)
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    flags = ("--quiet", "--disable-pip-version-check")
    _run(str(python(name)), "-m", "pip", "install", *flags, "-r", str(_requirements(name)))
    _stamp(name).write_text(_wanted(name))


def main() -> None:
    for name in NAMES:
        if not is_built(name):
            print(f"building {_folder(name).relative_to(ROOT)}", flush=True)
            build(name)


def _run(*command: str) -> None:
    done = subprocess.run(command)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")


def _folder(name: str) -> Path:
    return ROOT / ".venv" / "clients" / name


def _stamp(name: str) -> Path:
    return _folder(name) / "requirements.sha256"


def _requirements(name: str) -> Path:
    return Path(__file__).with_name(f"requirements-{name}.txt")


def _wanted(name: str) -> str:
    """Which requirements, under which Python."""
    text = f"{sys.version_info[:2]}\n{_requirements(name).read_text()}"
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
