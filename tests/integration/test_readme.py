"""The README's blocks, run in a fresh copy of the project: `make demo`, and beside it all others.

Each of the two is for a reader who begins there, and has training for most of its time, in one
thread. The others run in their order.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from service.startup import free_ports
from train.recipes import AUTO, RECIPES

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.integration


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of one language, in order."""
    return [
        text for name, text in BLOCK.findall((ROOT / "README.md").read_text()) if name == language
    ]


DEMO = "make demo\n"


def scripts(port: int, grpc_port: int) -> tuple[str, str]:
    """The demo, which finds ports itself, and every other bash and python block, on free ones."""
    start = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    parts = []
    for name, text in BLOCK.findall((ROOT / "README.md").read_text()):
        if name == "python":
            parts.append(f"python - <<'BLOCK'\n{text}BLOCK\n")
        elif name == "bash":
            parts.append(text)
    parts.remove(DEMO)
    free = {"8000": str(port), "8001": str(grpc_port)}
    road = re.sub("8000|8001", lambda match: free[match[0]], "\n".join(parts))
    return "\n".join([*start, DEMO]), "\n".join([*start, road])


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project's files, with the environment that is there in place of building another."""
    for tool in ("bash", "curl", "git", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("readme") / "oodgate"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    _borrow_environment(folder / ".venv")
    yield folder
    shutil.rmtree(folder.parent, ignore_errors=True)


def _borrow_environment(venv: Path) -> None:
    """The environment of this run under another path, with its own stamp: never installed into."""
    venv.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".setup-done":
            (venv / entry.name).symlink_to(entry)
    (venv / ".setup-done").touch()


@pytest.fixture(scope="module")
def output(clone: Path) -> str:
    """What all blocks print; they must succeed."""
    port, grpc_port = free_ports(2)
    url = {"OODGATE_URL": f"http://127.0.0.1:{port}"}  # its default is the port that is replaced
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **url}
    files = [clone.parent / name for name in ("demo", "road")]
    running: list[subprocess.Popen[bytes]] = []
    deadline = time.monotonic() + 1500
    try:
        for file, script in zip(files, scripts(port, grpc_port), strict=True):
            with file.open("wb") as stream:
                process = subprocess.Popen(
                    ["bash", "-c", script],
                    cwd=clone,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
            running.append(process)
        for process in running:
            process.wait(deadline - time.monotonic())
    finally:
        left = [process for process in running if process.poll() is None]
        for process in left:
            process.terminate()  # bash's trap ends what it has started
        for process in left:
            process.wait(60)
    printed = [file.read_text() for file in files]
    for process, text in zip(running, printed, strict=True):
        assert process.returncode == 0, text[-5000:]
    return "\n".join(printed)


def keys(value: Any) -> Any:
    """The shape of a JSON value: names and nesting, without the values."""
    if isinstance(value, dict):
        return {name: keys(entry) for name, entry in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else None


def test_every_block_runs_and_the_answer_has_the_fields_shown(output: str) -> None:
    starts = [match.start() for match in re.finditer(r'\{"id"', output)]
    answers = [json.JSONDecoder().raw_decode(output, start)[0] for start in starts]
    assert len(answers) == 3, output[-5000:]
    (shown,) = map(json.loads, blocks("json"))
    for answer, alpha in zip(answers, (0.05, 0.1, 0.05), strict=True):
        assert keys(answer) == keys(shown)
        assert answer["alpha"] == alpha
    assert "oodgate_decisions_total{decision=" in output
    assert "digits" in output
    shadowed, _, swapped = output.partition("shadow of digits: ")
    assert "sees the images of" in shadowed
    assert "answers in place of" in swapped


def test_the_demo_keeps_its_promises(output: str, clone: Path) -> None:
    """Figures of ``make demo``: accuracy, share of p_value <= alpha, strangers rejected."""
    assert output
    (file,) = (clone / "runs").glob("demo-*/figures.json")
    figures = json.loads(file.read_text())
    rows = {row["name"]: row for row in figures["rows"]}
    low, high = figures["interval"]
    digits = rows["held-out digits"]
    assert digits["accuracy"] >= 0.96
    assert low <= digits["at_alpha"] <= high
    for stranger in ("photograph patches", "uniform noise"):
        assert rows[stranger]["reject"] >= 0.9, stranger
    assert "service stopped, exit status 0" in output


def first_column(text: str, heading: str) -> list[str]:
    """The name that each row begins with, of the table whose first column has that heading."""
    _, _, below = text.partition(f"\n| {heading} |")
    rows = takewhile(lambda line: line.startswith("|"), below.splitlines()[2:])
    return [re.split(r"[`/ ]+", row)[1] for row in rows]


def test_the_recipes_and_rooms_it_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    rooms = first_column(text, "room")
    assert rooms
    for room in rooms:
        assert (ROOT / room).is_dir(), room
    assert sorted(first_column(text, "recipe")) == sorted((*RECIPES, AUTO))
