"""``oodgate evaluate --suite attacks``, with attacks that take seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.test_attack_suite import TINY
from train.evaluation import attack_plan
from train.evaluation.attack_story import CLAIM

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_plan, "budget", lambda name: TINY)


def test_attacks_are_in_the_report(
    oodgate: Run, bundle_dir: Path, resnet_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    words = ("evaluate", bundle_dir, "--id", "digits:test", "--suite", "attacks", "--limit", 60)
    code, _, told = oodgate(*words, "--baseline", resnet_dir, "--out", out)
    assert code == 0, told
    content = json.loads((out / "evaluation.json").read_bytes())
    assert content["suites"] == ["attacks"]
    cells = content["attacks"]["cells"]
    assert [cell["source"] for cell in cells].count("model") == len(TINY.attacks)
    assert content["seeds"]["attacks"] == 0
    for name in ("evaluation.md", "evaluation.html"):
        assert CLAIM.split(":")[0] in (out / name).read_text()
    assert not out.with_name("report.part").exists()


def test_another_budget_is_refused(
    oodgate: Run, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    words = ("evaluate", bundle_dir, "--id", "digits:test", "--suite", "attacks")
    code, _, told = oodgate(*words, "--budget", "tiny", "--out", tmp_path / "out")
    assert code == 2
    assert "--budget tiny: expected quick or full" in told
