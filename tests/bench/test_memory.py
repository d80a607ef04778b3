"""The memory row, tiny: it needs no FrEIA."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench import memory, model
from tests.bench.memory import Row, growth, measure


def test_growth_is_from_the_shallowest_to_the_deepest() -> None:
    rows = [
        Row(blocks=32, recompute=True, peak_bytes=300),
        Row(blocks=8, recompute=False, peak_bytes=7),
        Row(blocks=8, recompute=True, peak_bytes=100),
        Row(blocks=16, recompute=True, peak_bytes=1000),
    ]
    assert growth(rows, recompute=True) == 3


def test_every_figure_is_there() -> None:
    found = measure(torch.device("cpu"), depths=(2, 4), batch=2, rounds=2)
    data = json.loads(json.dumps(found.to_dict()))
    peaks = {(row["blocks"], row["recompute"]): row["peak_bytes"] for row in data["peak_bytes"]}
    assert data["growth"]["ordinary"] == peaks[4, False] / peaks[2, False] > 1
    assert data["growth"]["recompute"] == peaks[4, True] / peaks[2, True]
    for spread in data["time_ratio"].values():
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
    assert set(data["time_ratio"]) == {"2", "4"}
    assert "growth" in str(found)


@pytest.fixture
def own_randomness() -> Iterator[None]:
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(state)


@pytest.mark.usefixtures("own_randomness")
def test_the_row_of_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.json"
    threads = str(torch.get_num_threads())
    words = ["--quick", "--rows", "memory", "--threads", threads, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["model", *words])
    monkeypatch.setattr(memory, "DEPTHS", (1, 2))
    model.main()
    entry = json.loads(out.read_bytes())["memory (quick)"]
    assert entry["setting"]["quick"]
    assert [len(result["peak_bytes"]) for result in entry["results"]] == [4]
