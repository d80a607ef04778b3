"""``oodgate evaluate`` as a user runs it: the files of a report, and what is refused."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from calibration.metrics import accuracy
from calibration.table import labels_of
from service.bundle import Bundle
from service.cli.calibrate import calibrate
from service.cli.evaluate import evaluate
from tests.service.conftest import QUICK
from train.data import open_data
from train.evaluation.tables import DASH, number
from train.run import train_new
from train.strangers import NAMES

Run = Callable[..., tuple[int, str, str]]
FILES = {
    "evaluation.json",
    "evaluation.md",
    "evaluation.html",
    *("auroc.svg", "roc.svg", "strange_p_values.svg", "scores.svg"),
    *("known_p_values.svg", "class_rates.svg", "reliability.svg"),
}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of grey noise, without labels."""
    root = tmp_path_factory.mktemp("odd") / "noise"
    root.mkdir()
    random = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def report(
    bundle_dir: Path, noise: Path, resnet_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A report with a baseline; read only."""
    out = tmp_path_factory.mktemp("report") / "new" / "report"
    evaluate(
        bundle=str(bundle_dir), id_data="digits:test", ood=[str(noise)], baseline=[resnet_dir],
        out=out, limit=300,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def content(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report / "evaluation.json").read_bytes())
    return found


@pytest.fixture(scope="module")
def without_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on the digits but for 3 and 8."""
    root = tmp_path_factory.mktemp("without")
    assert train_new(replace(QUICK, leave_out=("3", "8")), root / "run").finished
    calibrate(source=str(root / "run"), data="digits", out=root / "bundle")
    return root / "bundle"


def test_the_files_of_a_report(report: Path) -> None:
    assert {path.name for path in report.iterdir()} == FILES | {"images"}
    assert sorted(path.name for path in (report / "images").iterdir()) == [
        f"0{number}-{kind}-typical.png" for number in (0, 1) for kind in ("least", "most")
    ]
    assert [path.name for path in report.parent.iterdir()] == ["report"]


def test_what_the_numbers_are_of(content: dict[str, Any], bundle: Bundle, noise: Path) -> None:
    assert content["bundle"]["name"] == bundle.name
    assert content["bundle"]["version"] == bundle.version
    assert content["bundle"]["reference_size"] == bundle.calibration.reference_size
    assert content["known"]["data"] == "digits:test"
    assert content["known"]["rows"] + content["known"]["refused"] == content["limit"] == 300
    (pair,) = content["pairs"]
    assert (pair["data"], pair["rows"], pair["refused"], pair["shared"]) == (str(noise), 40, 0, 0)
    assert pair["name"].endswith("/noise")
    assert content["means"] == []
    assert [found["alpha"] for found in content["realised"]] == [0.01, 0.05, 0.1]


def test_a_baseline_has_scores_alone(content: dict[str, Any]) -> None:
    (pair,) = content["pairs"]
    found = {one["detector"]: one for one in pair["found"]}
    for name in ("entropy of digits", "max_probability of digits"):
        assert 0 <= found[name]["auroc"] <= 1
        assert found[name]["tpr_01"] is found[name]["tpr_05"] is None
    assert all(one["tpr_05"] is not None for name, one in found.items() if " of " not in name)
    ours, theirs = content["posteriors"]
    assert (ours["source"], theirs["source"]) == ("this model", "digits")
    assert theirs["coverage"] is None
    assert content["baselines"] == {"digits": "resnet"}


def test_accuracy_is_that_of_the_bundle(
    oodgate: Run, bundle_dir: Path, bundle: Bundle, noise: Path, tmp_path: Path
) -> None:
    """On all rows, by a table that the score command wrote."""
    scoring = ("--data", "digits:test", "--local", "--out", tmp_path / "scores")
    assert oodgate("score", bundle_dir, *scoring)[0] == 0
    table = pq.read_table(tmp_path / "scores")
    labels, _ = labels_of(table)
    posterior = np.array(table["posterior"].to_pylist())
    words = ("--id", "digits:test", "--ood", noise, "--out", tmp_path / "report")
    code, said, err = oodgate("evaluate", bundle_dir, *words)
    assert code == 0, err
    found = json.loads((tmp_path / "report" / "evaluation.json").read_bytes())
    assert found["known"]["refused"] == 0
    share = found["posteriors"][0]["accuracy"]["share"]
    assert share == pytest.approx(accuracy(posterior, labels))
    assert "report in" in said


def test_markdown_and_json_agree(report: Path, content: dict[str, Any]) -> None:
    text = (report / "evaluation.md").read_text()
    main = next(line for line in text.splitlines() if "/noise | 40 |" in line)
    cells = [cell.strip() for cell in main.strip("| ").split(" | ")]
    (pair,) = content["pairs"]
    gate = next(one for one in pair["found"] if one["detector"] == "gate")
    expected = [number(gate[name]) for name in ("auroc", "tpr_01", "tpr_05", "fpr95")]
    assert cells[2:6] == expected
    assert cells[6] == f"{pair['rejected']['share']:.2%}"
    every = [line for line in text.splitlines() if line.startswith(f"| {cells[0]} | ")]
    for field, line in zip(("auroc", "tpr_01", "tpr_05", "fpr95"), every[1:], strict=True):
        assert line.strip("| ").split(" | ")[1:] == [number(one[field]) for one in pair["found"]]
    for found in content["realised"]:
        rate = found["rate"]
        assert f"| {found['alpha']:g} | {rate['count']} | {rate['share']:.2%} |" in text
    assert DASH in every[2]


def test_every_file_that_the_markdown_names_is_there(report: Path) -> None:
    text = (report / "evaluation.md").read_text()
    named = re.findall(r"!\[([^\]]+)\]\(<([^>]+)>\)", text)
    pictures = {str(path.relative_to(report)) for path in report.rglob("*.[sp][vn]g")}
    assert {name for _, name in named} == pictures
    assert all(alt for alt, _ in named)


class Page(HTMLParser):
    """Tags with their attributes, and whether each that was opened was closed."""

    EMPTY = ("meta", "img")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(report: Path) -> None:
    text = (report / "evaluation.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert "url(" not in text
    assert "@import" not in text
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        if "href" in attrs:
            assert str(attrs["href"]).removeprefix("#") in targets
        if "src" in attrs:
            assert str(attrs["src"]).startswith("data:image/")


def test_every_figure_of_the_page_says_what_it_is(report: Path) -> None:
    page = Page((report / "evaluation.html").read_text())
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(FILES) - 3 + 4
    assert all(attrs["alt"] for attrs in images)
    assert sum(tag == "figcaption" for tag, _ in page.tags) == len(images)
    for attrs in images:
        kind, _, data = str(attrs["src"]).partition(";base64,")
        if kind.endswith("svg+xml"):
            drawn = base64.b64decode(data).decode()
            assert not re.search(r'(href="|url\()(?!#)', drawn)


def test_far13(oodgate: Run, bundle_dir: Path, tmp_path: Path) -> None:
    root = tmp_path / "sets"
    shape = {"mnist": (28, 28), "cifar10": (32, 32, 3)}
    for name, size in shape.items():
        _write_set(root / name / "test.parquet", size)
    words = ("--id", "digits:test", "--ood", "far13:digits:test", "--strangers", root)
    code, said, err = oodgate(
        "evaluate", bundle_dir, *words, "--limit", 30, "--out", tmp_path / "out"
    )
    assert code == 0, err
    found = json.loads((tmp_path / "out" / "evaluation.json").read_bytes())
    assert [pair["name"] for pair in found["pairs"]] == list(NAMES)
    (mean,) = found["means"]
    assert mean["pairs"] == list(NAMES)
    for i, one in enumerate(mean["found"]):
        for field in ("auroc", "fpr95", "tpr_01"):
            values = [pair["found"][i][field] for pair in found["pairs"]]
            assert one[field] == pytest.approx(np.mean(values))
    assert "mean of 13 (far13)" in said


def test_far13_of_images_that_the_model_has_seen(
    oodgate: Run, bundle_dir: Path, tmp_path: Path
) -> None:
    root = tmp_path / "sets"
    for name, size in {"mnist": (28, 28), "cifar10": (32, 32, 3)}.items():
        _write_set(root / name / "test.parquet", size)
    words = ("--id", "digits:test", "--ood", "far13:digits", "--strangers", root, "--limit", 30)
    code, _, err = oodgate("evaluate", bundle_dir, *words, "--out", tmp_path / "out")
    assert code == 2
    assert "1,437 of the 1,437 images that far13 is made from were trained, fitted or" in err
    assert "name the test split" in err
    assert not (tmp_path / "out").exists()


def test_strangers_beside_known_images_in_jpeg(
    oodgate: Run, bundle_dir: Path, noise: Path, tmp_path: Path
) -> None:
    """What was done to them is beside the set, for people and for programs."""
    known, out = tmp_path / "known", tmp_path / "out"
    known.mkdir()
    for i, row in zip(range(40), open_data("digits:test"), strict=False):
        Image.open(io.BytesIO(row.image)).save(known / f"{i}.jpg", quality=90)
    code, _, err = oodgate("evaluate", bundle_dir, "--id", known, "--ood", noise, "--out", out)
    assert code == 0, err
    (pair,) = json.loads((out / "evaluation.json").read_bytes())["pairs"]
    assert pair["note"] == "stored as the first known image is, JPEG of 8 x 8 pixels"
    assert f"{pair['note']}." in (out / "evaluation.md").read_text()


def test_classes_left_out_are_strangers(oodgate: Run, without_dir: Path, tmp_path: Path) -> None:
    code, _, err = oodgate("evaluate", without_dir, "--id", "digits:test", "--out", tmp_path / "o")
    assert code == 0, err
    found = json.loads((tmp_path / "o" / "evaluation.json").read_bytes())
    labels = [row.label for row in open_data("digits:test")]
    assert [pair["name"] for pair in found["pairs"]] == ["class 3", "class 8"]
    assert [pair["rows"] for pair in found["pairs"]] == [labels.count(3), labels.count(8)]
    known = 360 - labels.count(3) - labels.count(8)
    assert found["known"]["rows"] + found["known"]["refused"] == known
    assert found["means"][0]["group"] == "left out of training"
    assert [one["label"] for one in found["classes"]] == list("01245679")


def test_rows_that_the_model_has_seen_are_refused(
    oodgate: Run, bundle_dir: Path, noise: Path, tmp_path: Path
) -> None:
    """Of training, fit and calibration rows nothing is left; one leaked among others is counted."""
    out = tmp_path / "out"
    words = ("evaluate", bundle_dir, "--out", out)
    code, _, err = oodgate(*words, "--id", "digits", "--ood", noise)
    assert (code, out.exists()) == (2, False)
    assert "error: digits: all 1,437 rows were trained, fitted or calibrated on" in err
    mixed = Path(shutil.copytree(noise, tmp_path / "mixed"))
    leaked = next(iter(open_data("digits")))
    (mixed / "leaked.png").write_bytes(leaked.image)
    assert oodgate(*words, "--id", "digits:test", "--ood", mixed)[0] == 0
    (pair,) = json.loads((out / "evaluation.json").read_bytes())["pairs"]
    assert (pair["rows"], pair["refused"]) == (40, 1)
    assert "Refused 1 rows of" in (out / "evaluation.md").read_text()


def test_known_images_without_labels(
    oodgate: Run, bundle_dir: Path, noise: Path, tmp_path: Path
) -> None:
    """Nothing is said of the posterior; images on both sides are counted."""
    known = tmp_path / "known"
    known.mkdir()
    for row, _ in zip(open_data("digits:test"), range(50), strict=False):
        (known / Path(row.id).name).write_bytes(row.image)
    out = tmp_path / "out"
    code, _, err = oodgate("evaluate", bundle_dir, "--id", known, "--ood", known, "--out", out)
    assert code == 0, err
    found = json.loads((out / "evaluation.json").read_bytes())
    assert found["posteriors"] == found["classes"] == []
    assert found["pairs"][0]["shared"] == found["pairs"][0]["rows"]
    assert found["pairs"][0]["found"][-1]["auroc"] == 0.5
    assert not (out / "reliability.svg").exists()
    assert "have no labels" in (out / "evaluation.md").read_text()


def test_an_out_that_is_not_empty(
    oodgate: Run, bundle_dir: Path, noise: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    words = ("evaluate", bundle_dir, "--id", "digits:test", "--ood", noise)
    for out in (tmp_path / "out", tmp_path / "out" / "mine.txt"):
        code, _, err = oodgate(*words, "--out", out)
        assert code == 2
        assert f"error: --out {out} is not an empty folder" in err
    code, _, err = oodgate(*words, "--out", tmp_path / "out" / "mine.txt" / "below")
    assert code == 2
    assert "is a file, expected a folder" in err
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_one_row_of_a_set(oodgate: Run, bundle_dir: Path, noise: Path, tmp_path: Path) -> None:
    words = ("--id", "digits:test", "--ood", noise, "--limit", 1, "--out", tmp_path / "out")
    code, _, err = oodgate("evaluate", bundle_dir, *words)
    assert code == 0, err
    found = json.loads((tmp_path / "out" / "evaluation.json").read_bytes())
    assert found["known"]["rows"] == found["pairs"][0]["rows"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to hold the bundle against: expected --ood DATA, or --leave-out CLASS"),
        (("--leave-out", "3"), "the model was trained on this class"),
        (("--ood", "no such set"), "no such set"),
        (("--ood", "far13:digits:test", "--strangers", "nowhere"), "--strangers nowhere"),
    ],
)
def test_what_cannot_be_held_against_it(
    oodgate: Run, bundle_dir: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    code, _, err = oodgate("evaluate", bundle_dir, "--id", "digits:test", "--out", out, *words)
    assert code == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_of_other_classes(
    oodgate: Run, without_dir: Path, resnet_dir: Path, tmp_path: Path
) -> None:
    words = ("--id", "digits:test", "--baseline", resnet_dir, "--out", tmp_path / "out")
    code, _, err = oodgate("evaluate", without_dir, *words)
    assert code == 2
    assert f"--baseline {resnet_dir}: classes" in err


def test_a_baseline_without_its_rows(
    oodgate: Run, bundle_dir: Path, noise: Path, resnet_dir: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(resnet_dir, tmp_path / "copy"))
    (copy / "rows.bin").unlink()
    words = ("--id", "digits:test", "--ood", noise, "--out", tmp_path / "out")
    code, _, err = oodgate("evaluate", bundle_dir, *words, "--baseline", copy)
    assert code == 2
    assert "expected the whole folder of a run" in err
    code, _, err = oodgate(
        "evaluate", bundle_dir, *words, "--baseline", resnet_dir, "--baseline", resnet_dir
    )
    assert code == 2
    assert "expected each of another name" in err
    named = Path(shutil.copytree(resnet_dir, tmp_path / "model"))
    code, _, err = oodgate("evaluate", bundle_dir, *words, "--baseline", named)
    assert code == 2
    assert "none of 'model', as reports call the bundle's: rename the folder" in err


def test_a_baseline_that_saw_the_strangers(oodgate: Run, without_dir: Path, tmp_path: Path) -> None:
    """Trained on rows of the test split, without the classes that the model does not know."""
    config = replace(QUICK, kind="resnet", data="digits:test", leave_out=("3", "8"))
    assert train_new(config, tmp_path / "leaky").finished
    words = ("--id", "digits:test", "--baseline", tmp_path / "leaky", "--out", tmp_path / "out")
    code, _, err = oodgate("evaluate", without_dir, *words)
    assert code == 2
    assert "--baseline leaky was trained on" in err


def test_without_matplotlib(
    oodgate: Run, bundle_dir: Path, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "matplotlib" else find(name),
    )
    words = ("--id", "digits:test", "--ood", noise, "--out", tmp_path / "out")
    code, _, err = oodgate("evaluate", bundle_dir, *words)
    assert code == 2
    assert 'pip install "oodgate[figures]"' in err
    assert not (tmp_path / "out").exists()


def _write_set(path: Path, size: tuple[int, ...]) -> None:
    random, rows = np.random.default_rng(0), []
    for i in range(40):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, size, np.uint8)).save(buffer, format="PNG")
        rows.append({"bytes": buffer.getvalue(), "path": f"{i}.png"})
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"image": rows, "label": [0] * len(rows)}), path)
