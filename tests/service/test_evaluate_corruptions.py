"""``oodgate evaluate --suite corruptions``: the report, going on with it, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.image import UInt8Array
from service.bundle import Bundle
from service.cli.evaluate import evaluate
from train.evaluation import corruption_suite, suites
from train.evaluation.corruption_cells import Cell, measure_cell
from train.evaluation.corruption_suite import CorruptionSuite
from train.evaluation.measure import Held
from train.evaluation.published import OTHERS
from train.evaluation.tables import number

Run = Callable[..., tuple[int, str, str]]

#: Two corruptions at two severities, which is enough of a suite.
SMALL = {
    "corruptions": lambda _: CorruptionSuite(corruptions=("snow", "contrast"), severities=(1, 5))
}
FILES = {
    *("evaluation.json", "evaluation.md", "evaluation.html"),
    *("corruptions_auroc.svg", "corruptions_accuracy.svg", "images"),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "SUITES", SMALL)


@pytest.fixture(scope="module")
def report(bundle_dir: Path, resnet_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of corruptions alone, with a ResNet; read only."""
    out = tmp_path_factory.mktemp("corruptions") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "SUITES", SMALL)
        evaluate(
            bundle=str(bundle_dir), id_data="digits:test", baseline=[resnet_dir], out=out,
            suite="corruptions", limit=60,
        )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def content(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report / "evaluation.json").read_bytes())
    return found


def words(bundle_dir: Path, out: Path, limit: int = 60) -> tuple[object, ...]:
    return (
        *("evaluate", bundle_dir, "--id", "digits:test", "--suite", "corruptions"),
        *("--limit", limit, "--out", out),
    )


def counted(monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[str]:
    """The cells that are measured from here on; killed before one more than ``most``."""
    made: list[str] = []

    def measured(held: Held, name: str, severity: int, pixels: UInt8Array) -> Cell:
        if most is not None and len(made) == most:
            raise KeyboardInterrupt
        made.append(f"{name} {severity}")
        return measure_cell(held, name, severity, pixels)

    monkeypatch.setattr(corruption_suite, "measure_cell", measured)
    return made


def test_the_files_of_a_report(report: Path) -> None:
    """Nothing that was kept on the way is left."""
    assert {path.name for path in report.iterdir()} == FILES
    assert (report / "images" / "corruptions.png").is_file()
    assert [path.name for path in report.parent.iterdir()] == ["report"]


def test_the_numbers(content: dict[str, Any], bundle: Bundle) -> None:
    assert content["bundle"]["version"] == bundle.version
    assert content["suites"] == ["corruptions"]
    assert content["seeds"]["corruptions"] == 0
    assert content["pairs"] == content["realised"] == content["posteriors"] == []
    found = content["corruptions"]
    assert found["rows"] == content["known"]["rows"]
    assert (found["reference"], found["stored"]) == ("digits", None)
    cells = {(cell["corruption"], cell["severity"]): cell for cell in found["cells"]}
    assert list(cells) == [("snow", 1), ("snow", 5), ("contrast", 1), ("contrast", 5)]
    for cell in cells.values():
        assert [one["source"] for one in cell["classified"]] == ["this model", "digits"]
        detectors = {one["detector"] for one in cell["pair"]["found"]}
        assert {"gate", "typicality", "input_statistics", "entropy of digits"} <= detectors
    errors = [
        [1 - cells[name, severity]["classified"][i]["accuracy"]["share"] for severity in (1, 5)]
        for name in ("snow", "contrast")
        for i in (0, 1)
    ]
    ratios = [sum(errors[0]) / sum(errors[1]), sum(errors[2]) / sum(errors[3])]
    ours, theirs = found["robustness"]
    assert ours["mce"] == pytest.approx(100 * np.mean(ratios))
    assert theirs["mce"] == pytest.approx(100)


def test_markdown_and_page_have_the_tables(report: Path, content: dict[str, Any]) -> None:
    text = (report / "evaluation.md").read_text()
    page = (report / "evaluation.html").read_text()
    found = content["corruptions"]
    for mean in found["by_corruption"]:
        line = next(line for line in text.splitlines() if line.startswith(f"| {mean['group']} |"))
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        theirs = cells.pop(3)  # after typicality
        assert theirs == number(found["published"]["auroc_beta_2"][mean["group"]])
        assert cells[1:] == [number(one["auroc"]) for one in mean["found"]]
        assert f"<td>{cells[-1]}</td>" in page
    for severity in found["by_severity"]:
        share = severity["accuracy_accepted"]["share"]
        assert share is None or f"{share:.2%}" in text
    for heading in ("Corruptions", "Corruptions: robustness of the classes", "Bad news"):
        assert f"## {heading}" in text
        assert f">{heading}</h2>" in page
    assert "The gate on each set" not in text
    assert "Does the p-value keep its word" not in text
    assert "were looked at" in text


def test_published_figures_are_marked(report: Path, content: dict[str, Any]) -> None:
    beside = content["corruptions"]["published"]
    assert beside["source"].startswith("published by others on ImageNet")
    text = (report / "evaluation.md").read_text()
    page = (report / "evaluation.html").read_text()
    assert text.count(f"({OTHERS})") == page.count(f"({OTHERS})") == len(beside["table"])
    assert f"{OTHERS}: typicality" in text
    assert beside["source"] in text


def test_every_file_that_the_markdown_names_is_there(report: Path) -> None:
    text = (report / "evaluation.md").read_text()
    named = re.findall(r"!\[([^\]]+)\]\(<([^>]+)>\)", text)
    pictures = {str(path.relative_to(report)) for path in report.rglob("*.[sp][vn]g")}
    assert {name for _, name in named} == pictures
    assert all(alt for alt, _ in named)
    assert (report / "evaluation.html").read_text().count("data:image/") == len(pictures)


def test_a_kill_between_cells(
    oodgate: Run, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command goes on, measures no cell twice and comes to the same report."""
    first = counted(monkeypatch, most=2)
    assert oodgate(*words(bundle_dir, tmp_path / "out"))[0] == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.part"]
    second = counted(monkeypatch)
    code, said, err = oodgate(*words(bundle_dir, tmp_path / "out"))
    assert code == 0, err
    assert first + second == ["snow 1", "snow 5", "contrast 1", "contrast 5"]
    assert "corruptions: 240 of 240 img" in err
    assert "Corruptions, mean of 2 at 2 severities" in said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert oodgate(*words(bundle_dir, tmp_path / "whole"))[0] == 0
    found, whole = tmp_path / "out", tmp_path / "whole"
    assert _without_time(found) == _without_time(whole)
    for picture in found.rglob("*.[sp][vn]g"):
        assert picture.read_bytes() == (whole / picture.relative_to(found)).read_bytes()


def test_another_command_is_refused(
    oodgate: Run, bundle_dir: Path, resnet_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    counted(monkeypatch, most=1)
    out = tmp_path / "out"
    assert oodgate(*words(bundle_dir, out))[0] == 130
    made = counted(monkeypatch)
    code, _, err = oodgate(*words(bundle_dir, out, limit=50))
    assert code == 2
    assert "holds what another evaluation has measured: limit there 60, here 50;" in err
    assert f"or delete {out}.part" in err
    code, _, err = oodgate(*words(bundle_dir, out), "--baseline", resnet_dir)
    assert code == 2
    assert "baselines there {}, here" in err
    assert made == []
    assert [path.name for path in tmp_path.iterdir()] == ["out.part"]


def test_beside_other_suites(oodgate: Run, bundle_dir: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    random = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(noise / f"{i}.png")
    code, said, err = oodgate(
        *("evaluate", bundle_dir, "--id", "digits:test", "--ood", noise, "--limit", 40),
        *("--suite", "ood,calibration,corruptions", "--out", tmp_path / "out"),
    )
    assert code == 0, err
    text = (tmp_path / "out" / "evaluation.md").read_text()
    order = [
        *("The gate on each set", "Bad news", "Every detector", "Corruptions"),
        *("Does the p-value keep its word", "Posterior", "Images"),
    ]
    places = [text.index(f"## {heading}\n") for heading in order]
    assert places == sorted(places)
    assert "they need the errors of a ResNet" in text
    assert "Against " in said
    assert "Corruptions, mean of 2" in said
    found = json.loads((tmp_path / "out" / "evaluation.json").read_bytes())
    assert found["pairs"]
    assert found["realised"]
    assert found["corruptions"]["reference"] is None


def test_calibration_alone(oodgate: Run, bundle_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = oodgate(
        *("evaluate", bundle_dir, "--id", "digits:test", "--suite", "calibration", "--out", out)
    )
    assert code == 0, err
    names = {path.name for path in out.iterdir()}
    assert "reliability.svg" in names
    assert not names & {"auroc.svg", "corruptions_auroc.svg"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--suite", "corruption"), "--suite 'corruption': expected one or more of ood, calibra"),
        (("--suite", ""), "--suite ''"),
        (("--ood", "digits"), "--ood is for strangers, which --suite corruptions has none of"),
        (("--leave-out", "3"), "--leave-out is for strangers"),
        (("--strangers", "x"), "--strangers is for strangers"),
    ],
)
def test_what_cannot_be_asked_for(
    oodgate: Run, bundle_dir: Path, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    code, _, err = oodgate(*words(bundle_dir, tmp_path / "out"), *more)
    assert code == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_images_without_labels(oodgate: Run, bundle_dir: Path, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(known / "0.png")
    code, _, err = oodgate(
        *("evaluate", bundle_dir, "--id", known, "--suite", "corruptions"),
        *("--out", tmp_path / "out"),
    )
    assert code == 2
    assert "--suite corruptions: 1 of the 1 rows" in err
    assert [path.name for path in tmp_path.iterdir()] == ["known"]


def _without_time(report: Path) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads((report / "evaluation.json").read_bytes())
    return {name: value for name, value in found.items() if name not in ("created", "git_commit")}
