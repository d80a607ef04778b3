"""The train command as its own process: Ctrl-C, resumption, and no server installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.config import TrainConfig
from train.recipes import find_recipe
from train.run import train_new
from train.run_file import read_run

pytestmark = pytest.mark.integration

#: `python -m train` that says when it is about to take its sixth step, and waits for a line.
STOPPING_AT_STEP_FIVE = """
import sys
from train.cli import main
from train.loop import Trainer

step = Trainer._train_step

def waiting(self, number, *rest):
    if number == 5:
        print("ready", flush=True)
        sys.stdin.readline()
    step(self, number, *rest)

Trainer._train_step = waiting
main()
"""

#: Everything up to a verdict table, with what only serving needs kept from being imported (but
#: pydantic, which typer itself needs).
WITHOUT_A_SERVER = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "fastapi", "grpc", "prometheus_client"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

def run(main, *words):
    sys.argv = ["oodgate", *words]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, (words, stopped.code)

import train.cli
run(train.cli.main, *"--data digits --recipe digits --epochs 1 --out run".split())
import service.cli
for line in (
    "calibrate run --data digits --out bundle",
    "inspect bundle",
    "score bundle --data digits:test --out table --local",
    "score run --data digits:test --out scores --local",
):
    run(service.cli.main, *line.split())
sys.argv = ["oodgate", "serve", "bundle"]
try:
    service.cli.main()
except SystemExit as stopped:
    assert stopped.code == 2, stopped.code
"""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def test_ctrl_c_then_resume_gives_the_undisturbed_weights(tmp_path: Path) -> None:
    out, settings = tmp_path / "stopped", "--data digits --recipe digits --epochs 1"
    command = [sys.executable, "-c", STOPPING_AT_STEP_FIVE, *settings.split(), "--out", str(out)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said, err = process.communicate("go on\n")
    assert process.returncode == 130
    assert said == f"stopped at step 6; go on with: --resume --out {out}\n"
    assert "Traceback" not in err
    assert read_run(out)["progress"]["steps"] == 6

    resumed = subprocess.run(
        [sys.executable, "-m", "train", "--resume", "--out", str(out)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"checkpoint in {out}" in resumed.stdout
    config = TrainConfig.from_dict(read_run(out)["config"])
    assert config.epochs == 1
    assert config.recipe == find_recipe("digits").name
    undisturbed = tmp_path / "undisturbed"
    train_new(config, undisturbed)
    found, expected = (
        load_file(folder / "model" / "weights.safetensors") for folder in (out, undisturbed)
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_training_calibrating_and_scoring_need_no_server(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_A_SERVER],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "checkpoint in run" in found.stdout
    assert "bundle digits" in found.stdout
    assert "table: 360 rows" in found.stdout
    assert "scores: 360 rows: 360 scored" in found.stdout
    assert "install oodgate with its 'serve' extra" in found.stderr
