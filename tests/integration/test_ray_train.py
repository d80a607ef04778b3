"""``train --workers 2`` on a real Ray: a lost worker, Ctrl-C; the weights of one process.

One run passes through all of it, since each start of Ray and its workers takes many seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from service import processes
from train.loop import HISTORY_FILE
from train.parallel import Alone
from train.recipes import RECIPES
from train.run import resume, run_trainer, train_new

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
#: Generous: only something broken reaches it.
DEADLINE_S = 300.0

#: ``python -m train`` without dropout. The second worker kills itself once, at its ninth step; then
#: the first waits at the eleventh for a word. Ray carries functions of ``__main__`` along.
DRIVER = """
import os, signal, sys, time
from dataclasses import replace
from pathlib import Path

import train.distributed
from train.cli import main

GATE = Path(sys.argv.pop(1))

def without_dropout():
    from train.recipes import RECIPES
    RECIPES["digits"] = replace(RECIPES["digits"], dropout=0.0)

def once(name):
    try:
        (GATE / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

def disturbed_work(settings):
    import train.distributed
    from train.loop import Trainer
    without_dropout()
    step = Trainer._train_step

    def disturbed(self, number, batch, meter):
        rank = self._world.rank
        if number == 8 and rank and once("lost"):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 10 and not rank and once("waiting"):
            while not (GATE / "go").exists():
                time.sleep(0.05)
        step(self, number, batch, meter)

    Trainer._train_step = disturbed
    try:
        return train.distributed.work(settings)
    finally:
        Trainer._train_step = step

without_dropout()
train.distributed.work = disturbed_work
main()
"""


class Driver:
    """The command as a user's terminal runs it: in a process group of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self._folder, self._began = folder, set[processes.Process]()
        #: Short, since the paths of Unix sockets are; all that Ray writes is in it.
        self.temporary = Path(tempfile.mkdtemp(prefix="o"))
        self.output = folder / "output"
        self.gate = folder / "gate"
        self.gate.mkdir()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(self.gate), *flags],
                cwd=folder,
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        home = {"HOME": str(self._folder), "TMPDIR": str(self.temporary)}
        return {**kept, **home, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Poll; only what is broken reaches the deadline or ends first."""
        deadline = time.monotonic() + DEADLINE_S
        while not true():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            self._began |= processes.descendants(self.process.pid)
            time.sleep(0.1)

    def end(self) -> tuple[int, str]:
        """Its status, when it has ended by itself, and what it said."""
        return self.process.wait(DEADLINE_S), self.output.read_text()

    def left(self) -> list[processes.Process]:
        """What it started and is still there."""
        return [process for process in self._began if processes.alive(process)]

    def close(self) -> None:
        """Whatever is left is ended, by its id."""
        if self.process.poll() is None:
            self._began |= processes.descendants(self.process.pid)
            self.process.kill()
            self.process.wait()
        processes.end(self._began, 1)
        shutil.rmtree(self.temporary, ignore_errors=True)


SETTINGS = "--data digits --recipe digits --epochs 2 --batch-size 200 --workers 2 --out run"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    running = Driver(tmp_path, *SETTINGS.split())
    yield running
    running.close()


def test_a_worker_is_lost_then_ctrl_c_and_it_comes_to_what_one_process_does(
    tmp_path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    driver.wait_until((driver.gate / "waiting").exists)
    os.killpg(driver.process.pid, signal.SIGINT)
    driver.wait_until(lambda: any(out.glob(".ray-*/stop")))
    (driver.gate / "go").touch()
    status, said = driver.end()
    assert status == 130, said
    assert (driver.gate / "lost").exists()
    assert said.count("a worker was lost: all go on from the state last saved") == 1
    assert said.count("training: 2,007 of 2,014 img, loss") == 1
    assert "stopped at step 11; go on with: --resume --out run" in said
    assert "Traceback" not in said

    assert not driver.left()
    assert not (tmp_path / "ray_results").exists()
    assert not any(driver.temporary.iterdir())
    names = {"history.jsonl", "model", "rows.bin", "run.json", "state.safetensors"}
    assert {path.name for path in out.iterdir()} == names

    recipe = replace(RECIPES["digits"], dropout=0.0)
    monkeypatch.setitem(RECIPES, "digits", recipe)
    config = replace(recipe.train_config(data="digits"), epochs=2, batch_size=200)
    train_new(config, tmp_path / "alone", stop_at=11)
    assert_close_runs(tmp_path / "alone", out)
    resume(tmp_path / "alone")
    assert run_trainer(config, out, Alone()).finished  # any number of processes can go on
    assert_close_runs(tmp_path / "alone", out)
    history = (out / HISTORY_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in history] == [6, 12]


def assert_close_runs(one: Path, other: Path) -> None:
    first, second = (load_file(run / "model" / "weights.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-4, msg=name)
