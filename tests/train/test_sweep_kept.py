"""A report is of every finished run in its folder, and measures only what has changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from calibration.temperature import MAX_TEMPERATURE
from tests.train.sweeping import COMMIT, FOLDERS, contents, points, prepare, run
from train import sweep_measure, sweep_runs
from train.data import DataError
from train.sweep_measure import Conditions
from train.sweep_report import COLUMNS, Earlier, read_report
from train.validation import outputs

pytestmark = pytest.mark.usefixtures("sweep_recipe")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each pass through a network that is made to measure."""
    passes: list[int] = []

    def noted(classifier: Any, images: Any) -> Any:
        passes.append(len(images))
        return outputs(classifier, images)

    monkeypatch.setattr(sweep_measure, "outputs", noted)
    return passes


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "sweep.json").read_text())
    return content


def earlier(out: Path) -> Earlier:
    return read_report(out, Conditions(**report(out)["measured"]))


def test_fewer_betas_keep_the_report_of_the_whole(copied: Path, measured: list[int]) -> None:
    before = contents(copied)
    run(copied, betas="1", resnet=False)
    assert contents(copied) == before
    assert not measured


def test_one_more_beta_joins_the_others(copied: Path, measured: list[int]) -> None:
    before = points(copied)
    run(copied, betas="4", resnet=False)
    after = points(copied)
    assert tuple(after) == ("beta-0", "beta-1", "beta-4", "beta-inf", "resnet")
    assert {name: after[name] for name in before} == before
    assert measured == [360, 215]


def test_changed_weights_are_measured_again(copied: Path, measured: list[int]) -> None:
    before = points(copied)
    weights = "model/weights.safetensors"
    shutil.copy(copied / "beta-inf" / weights, copied / "beta-1" / weights)
    run(copied)
    after = points(copied)
    assert measured == [360, 215]
    assert after["beta-1"]["beta"] == 1
    for name in ("accuracy", "l_x", "weights_sha256"):
        assert after["beta-1"][name] == before["beta-inf"][name] != before["beta-1"][name]
    assert {**after, "beta-1": None} == {**before, "beta-1": None}


@pytest.mark.parametrize("name", ["test_sha256", "fit_sha256", "device", "torch", "git_commit"])
def test_other_conditions_measure_all_again(copied: Path, measured: list[int], name: str) -> None:
    content = report(copied)
    content["measured"][name] = "another"
    (copied / "sweep.json").write_text(json.dumps(content))
    run(copied, betas="1", resnet=False)
    assert measured == 4 * [360, 215]
    assert report(copied)["measured"][name] != "another"


@pytest.mark.parametrize("commit", [None, f"{COMMIT}+changes"])
def test_code_that_no_commit_names_measures_all_again(
    copied: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch, commit: str | None
) -> None:
    """It may have changed since, though it is called the same."""
    prepare(monkeypatch, commit)
    for _ in range(2):
        run(copied, betas="1", resnet=False)
        assert report(copied)["measured"]["git_commit"] == commit
    assert measured == 2 * 4 * [360, 215]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1, "points": []}'])
def test_a_report_that_cannot_be_read_is_made_again(
    copied: Path, measured: list[int], text: str
) -> None:
    before = contents(copied)
    (copied / "sweep.json").write_text(text)
    run(copied)
    assert measured == 4 * [360, 215]
    assert contents(copied) == before


def test_figures_come_back_from_the_report_as_they_were(sweep_dir: Path) -> None:
    found = earlier(sweep_dir).figures.values()
    assert [figures.beta for figures in found] == [0.0, 1.0, float("inf"), None]
    for figures, point in zip(found, points(sweep_dir).values(), strict=True):
        words = {name: "inf" if v == float("inf") else v for name, v in asdict(figures).items()}
        assert words == point


def test_a_run_that_is_not_finished_is_named(copied: Path) -> None:
    path = copied / "beta-0" / "run.json"
    content = json.loads(path.read_text())
    content["progress"]["finished"] = False
    path.write_text(json.dumps(content))
    run(copied, betas="1", resnet=False)
    assert tuple(points(copied)) == FOLDERS[1:]
    missing = report(copied)
    assert missing["missing"] == {"beta 0": "not trained to its end"}
    missing["missing"]["beta 0"] = "the loss is nan"
    (copied / "sweep.json").write_text(json.dumps(missing))
    run(copied, betas="1", resnet=False)
    assert "beta 0 is missing: the loss is nan" in (copied / "sweep.md").read_text()


def test_a_run_on_other_rows_is_refused_before_training(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_runs, "train_new", pytest.fail)
    rows = copied / "beta-0" / "rows.bin"
    rows.write_bytes(rows.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"digits has changed since the run in .*beta-0 began"):
        run(copied, betas="2", resnet=False)


def test_a_temperature_without_meaning_is_a_dash(sweep_dir: Path) -> None:
    one = next(iter(earlier(sweep_dir).figures.values()))
    assert COLUMNS["T"](replace(one, temperature=MAX_TEMPERATURE)) == "-"
    assert COLUMNS["T"](replace(one, temperature=1.234)) == "1.23"


def test_the_report_says_what_it_was_measured_with(sweep_dir: Path) -> None:
    content, text = report(sweep_dir), (sweep_dir / "sweep.md").read_text()
    facts = content["measured"]
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == content["config"]["threads"] == 1
    assert f"on {facts['device']} with 1 thread, torch {facts['torch']}, git commit " in text
    assert facts["test_sha256"] in text
    assert facts["test_sha256"] != facts["fit_sha256"]
    assert facts["git_commit"] == COMMIT
    assert f"git commit {COMMIT};" in text
