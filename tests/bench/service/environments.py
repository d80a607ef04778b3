"""The peers' environments, ``.venv/peers/NAME``: ``python -m tests.bench.service.environments``.

Each peer has the exact packages of ``peers/NAME/requirements.txt`` in an environment of its own.
What is heavy and the same for all, such as torch, is not installed again: the main environment's
packages stand at the end of the peer's path, where they are found only if the peer brings no such
package itself.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

PEERS = Path(__file__).with_name("peers")
ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / ".venv" / "peers"
NAMES = ("fastapi", "litserve", "mlserver")


def python_of(name: str) -> Path:
    """The peer's interpreter; its environment is built if it is missing or out of date."""
    folder, requirements = HOME / name, PEERS / name / "requirements.txt"
    stamp, wanted = folder / ".done", _fingerprint(requirements)
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"building {folder.relative_to(ROOT)}", flush=True)
        _build(folder, python, requirements)
        stamp.write_text(wanted)
    return python


def _build(folder: Path, python: Path, requirements: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps")
    command = [str(python), "-m", "pip", "install", *quiet, "--requirement", str(requirements)]
    subprocess.run(command, check=True)
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "zz_main.pth").write_text(_main_packages() + "\n")


def _main_packages() -> str:
    """Where the main environment has torch and the rest; files of paths in it are not followed."""
    return sysconfig.get_path("purelib")


def _fingerprint(requirements: Path) -> str:
    """What an environment depends on; another of it, and the environment is built anew."""
    parts = (requirements.read_text(), sys.version, _main_packages())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


if __name__ == "__main__":
    for peer in NAMES:
        print(python_of(peer))
