"""Figures on test rows: only rows that nothing has seen, and only fair comparisons."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from calibration.calibration_error import calibrated_ece, class_wise_ece, debiased_ece, ece
from calibration.files import to_files
from calibration.metrics import accuracy, aurc, brier, nll, overconfidence_error
from calibration.rows import is_in
from calibration.table import (
    TableError,
    floats_of,
    labels_of,
    logits_of,
    score_table,
    statistics_of,
)
from calibration.temperature import softmax
from service.bundle import HISTORY, MANIFEST, Bundle
from service.cli.calibrate import calibrate
from service.cli.held_out import split_figures
from train.data import open_data
from train.images import load_images
from train.run_file import read_run, write_run

Run = Callable[..., tuple[int, str, str]]


def digits(root: Path, split: str, count: int, *, labelled: bool = True) -> Path:
    for row, _ in zip(open_data(f"digits:{split}"), range(count), strict=False):
        path = root / (str(row.label) if labelled else ".") / Path(row.id).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.image)
    return root


def test_figures_of_a_table(bundle: Bundle) -> None:
    """On the calibration rows most of them are known otherwise."""
    table = bundle.calibration.table
    rows = table.filter(pa.compute.equal(table["split"], "cal"))
    found = split_figures(rows, bundle.calibration, bundle.checkpoint.classifier.config)
    posterior = softmax(logits_of(rows), bundle.calibration.posterior.temperature)
    labels, _ = labels_of(rows)
    assert found["accuracy"] == bundle.manifest.metrics["accuracy"] == accuracy(posterior, labels)
    assert found["nll"] == nll(posterior, labels)
    assert found["ece"] == ece(posterior, labels)
    assert found["ece_debiased"] == debiased_ece(posterior, labels)
    assert found["ece_if_calibrated"] == calibrated_ece(posterior)
    assert found["ece_class_wise"] == class_wise_ece(posterior, labels)
    assert found["brier"] == brier(posterior, labels)
    assert found["aurc"] == aurc(posterior, labels)
    assert found["oce"] == overconfidence_error(posterior, labels)
    assert found["oce_rows"] == (posterior.max(axis=1) >= 0.997).sum()
    assert found["ece_before_temperature"] == ece(softmax(logits_of(rows), 1.0), labels)
    log2_p = floats_of(rows, "log_prob") / np.log(2)
    assert found["bits_per_dim"] == pytest.approx(np.log2(17) - log2_p.mean() / 64, rel=1e-12)
    # ranks of the reference among itself: 2/216, 3/216, ..., 1, where no two scores are equal
    p = np.arange(2, 217) / 216
    threshold = bundle.calibration.threshold()
    decided = bundle.calibration.decide(
        logits_of(rows), floats_of(rows, "log_prob"), statistics_of(rows)
    )
    assert found["abstained"] == decided.abstained.mean()
    assert found["rejected"] == pytest.approx((p <= threshold).mean(), abs=2 / 215)
    assert found["p_value_at_most_alpha"] == pytest.approx((p <= 0.05).mean(), abs=2 / 215)


def test_a_score_that_is_no_number_is_refused(bundle: Bundle) -> None:
    names = bundle.calibration.reference.names
    table = score_table(
        ids=["a"],
        labels=[0],
        splits=None,
        logits=np.zeros((1, 10)),
        log_prob=[np.inf],
        statistics={name: [0.0] for name in names},
    )
    with pytest.raises(TableError, match="log_prob"):
        split_figures(table, bundle.calibration, bundle.checkpoint.classifier.config)


def test_calibrate_writes_figures_down(
    oodgate: Run, checkpoint_dir: Path, flow_dir: Path, resnet_dir: Path, tmp_path: Path
) -> None:
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    out = tmp_path / "new"
    code, said, _ = oodgate(*words, "--flow", flow_dir, "--baseline", resnet_dir, "--out", out)
    assert code == 0
    assert "test: 360 rows of digits:test\n" in said
    metrics = Bundle.load(out).manifest.metrics
    test, flow, resnet = metrics["test"], metrics["flow"], metrics["baseline"]
    assert (test["data"], test["rows"], test["refused"]) == ("digits:test", 360, 0)
    assert test["round_trip"]["rows"] == 360
    assert 0 < test["round_trip"]["max_error"] < 1e-4
    assert f"test: accuracy {test['accuracy']:.2%}, {test['bits_per_dim']:.3f} bits/dim" in said
    assert flow["difference"] == test["bits_per_dim"] - flow["bits_per_dim"]
    assert (flow["beta"], flow["epochs"], resnet["epochs"]) == (0, 1, 1)
    assert resnet["kind"] == "resnet"
    assert resnet["gap_points"] == 100 * (resnet["accuracy"] - test["accuracy"])
    for figures, run in ((flow, flow_dir), (resnet, resnet_dir)):
        recorded = json.loads((run / "run.json").read_text())
        assert figures["seconds"] == recorded["progress"]["seconds"]
        assert figures["parameters"] == recorded["parameters"]
        assert figures["settings_that_differ"] == {"epochs": [4, 1], "batch_size": [64, 128]}
    for flag in ("flow", "baseline"):
        other = f"--{flag} was trained with other settings than the model: "
        assert other + "epochs 1, not 4; batch_size 128, not 64\n" in said


def test_test_figures_choose_nothing(
    oodgate: Run, checkpoint_dir: Path, bundle: Bundle, tmp_path: Path
) -> None:
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    assert oodgate(*words, "--out", tmp_path / "new")[0] == 0
    made = Bundle.load(tmp_path / "new")
    assert to_files(made.calibration) == to_files(bundle.calibration)
    assert made.rows.to_bytes() == bundle.rows.to_bytes()
    ours = {name: value for name, value in made.manifest.metrics.items() if name != "test"}
    assert ours == bundle.manifest.metrics


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_an_inverse_without_numbers_is_refused(
    error: float,
    oodgate: Run,
    checkpoint_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "train.scoring.round_trip_errors", lambda _, images: np.append(error, images[1:, 0, 0, 0])
    )
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    code, _, err = oodgate(*words, "--out", tmp_path / "new")
    assert code == 2
    assert "error: inverting 360 test rows gives no finite pixels" in err
    assert not (tmp_path / "new").exists()


def test_what_is_not_known_of_an_ancestor_is_said(
    oodgate: Run, checkpoint_dir: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(checkpoint_dir, tmp_path / "copy")
    run = read_run(copy)
    write_run(copy, {**run, "config": {**run["config"], "init": "runs/other"}})
    words = ("calibrate", copy, "--data", "digits", "--test", "digits:test")
    code, said, _ = oodgate(*words, "--out", tmp_path / "new")
    assert code == 0
    assert "rows of the models before it are not all known" in said
    _, said, _ = oodgate("inspect", tmp_path / "new", "--check", "digits:test")
    assert "not checked    the rows of runs/other, which training started from" in said


def test_rows_that_were_seen_are_refused_and_counted(
    oodgate: Run, checkpoint_dir: Path, tmp_path: Path
) -> None:
    data = digits(digits(tmp_path / "images", "test", 50), "train", 30)
    out = tmp_path / "new"
    code, said, _ = oodgate(
        "calibrate", checkpoint_dir, "--data", "digits", "--test", data, "--out", out
    )
    assert code == 0
    assert "refused 30 that were trained, fitted or calibrated on" in said
    test = Bundle.load(out).manifest.metrics["test"]
    assert (test["rows"], test["refused"]) == (50, 30)


def test_rows_of_either_calibration_are_refused(
    oodgate: Run, bundle: Bundle, tmp_path: Path
) -> None:
    data = digits(tmp_path / "images", "test", 200)
    out = tmp_path / "new"
    words = ("calibrate", bundle.path, "--data", data, "--test", "digits:test", "--out", out)
    assert oodgate(*words)[0] == 0
    assert Bundle.load(out).manifest.metrics["test"]["refused"] == 200
    words = ("calibrate", bundle.path, "--data", data, "--test", "digits", "--out", tmp_path / "b")
    code, _, err = oodgate(*words)
    assert code == 2
    assert "all 1437 rows were trained, fitted or calibrated on" in err


@pytest.fixture(scope="module")
def twice(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle, recalibrated on 200 rows without labels."""
    root = tmp_path_factory.mktemp("twice")
    data = digits(root / "images", "test", 200, labelled=False)
    calibrate(source=str(bundle.path), data=str(data), out=root / "new")
    return Bundle.load(root / "new")


def mixture(bundle: Bundle, root: Path) -> Path:
    """80 rows that ``bundle`` was fitted or calibrated on, and the last 60 of the test split."""
    record, rows = bundle.rows, list(open_data("digits"))
    found = load_images(
        open_data("digits"), bundle.spec, bundle.class_labels, lambda rows, **_: rows
    )
    known = is_in(found.digests, np.concatenate([record.fit[:40], record.cal[:40]]))
    for row in [rows[i] for i in np.flatnonzero(known)] + list(open_data("digits:test"))[-60:]:
        path = root / str(row.label) / Path(row.id).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.image)
    return root


@pytest.mark.parametrize("labelled", [True, False])
def test_rows_behind_a_kept_temperature_are_refused(
    oodgate: Run, bundle: Bundle, twice: Bundle, tmp_path: Path, labelled: bool
) -> None:
    """What fitted the temperature two calibrations ago is no test of it now."""
    data = digits(tmp_path / "images", "test", 250, labelled=labelled)
    words = ("--data", data, "--test", mixture(bundle, tmp_path / "mixed"))
    out = tmp_path / "new"
    code, said, _ = oodgate("calibrate", twice.path, *words, "--out", out)
    assert code == 0
    assert "refused 80 that were trained, fitted or calibrated on" in said
    made = Bundle.load(out)
    test = made.manifest.metrics["test"]
    assert (test["rows"], test["refused"]) == (60, 80)
    assert made.calibration.posterior_borrowed is not labelled
    assert len(made.rows.kept) == (0 if labelled else 430)


def test_check_knows_rows_behind_a_kept_temperature(
    oodgate: Run, bundle: Bundle, twice: Bundle, tmp_path: Path
) -> None:
    temperatures = {b.calibration.posterior.temperature for b in (twice, bundle)}
    assert len(temperatures) == 1
    assert twice.manifest.data["rows"] == {"train": 1007, "fit": 100, "cal": 100, "kept": 430}
    words = ("inspect", twice.path, "--check", mixture(bundle, tmp_path / "mixed"))
    found = json.loads(oodgate(*words, "--json")[1])
    assert {name: found[name] for name in ("train", "fit", "cal", "kept", "new")} == {
        "train": 0,
        "fit": 0,
        "cal": 0,
        "kept": 80,
        "new": 60,
    }
    assert "fitted earlier 80, for temperature and prediction sets" in oodgate(*words)[1]


ERRORS = {
    "beta": ("--test digits:test --flow {checkpoint}", "trained with beta 1, expected 0"),
    "no flow": ("--test digits:test --flow {resnet}", "kind 'resnet', expected 'flow'"),
    "no baseline": ("--test digits:test --baseline {flow}", "kind 'flow', expected 'resnet'"),
    "no run": ("--test digits:test --flow {tmp}", "not a training run"),
    "no test": ("--flow {flow}", "add --test DATA"),
    "no labels": ("--test {tmp}/flat", "5 of 5 rows have no label"),
    "nothing new": ("--test digits", "all 1437 rows were trained, fitted or calibrated on"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_a_user_can_mend(
    oodgate: Run, checkpoint_dir: Path, flow_dir: Path, resnet_dir: Path, tmp_path: Path, name: str
) -> None:
    digits(tmp_path / "flat", "test", 5, labelled=False)
    words, message = ERRORS[name]
    places = {"checkpoint": checkpoint_dir, "flow": flow_dir, "resnet": resnet_dir, "tmp": tmp_path}
    given = words.format(**places).split()
    code, _, err = oodgate(
        "calibrate", checkpoint_dir, "--data", "digits", *given, "--out", tmp_path / "o"
    )
    assert code == 2
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_anyone_can_check(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    code, out, _ = oodgate("inspect", bundle.path, "--check", "digits:test", "--json")
    assert code == 0
    expected = {"name": "digits", "version": bundle.version, "data": "digits:test", "rows": 360}
    nothing = {"train": 0, "fit": 0, "cal": 0, "kept": 0, "ancestor": 0, "new": 360, "init": None}
    assert json.loads(out) == expected | nothing
    code, out, _ = oodgate("inspect", bundle.path, "--check", "digits")
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.replace("ed on ", "ed_on ").splitlines())
    assert (lines["trained_on"], lines["fitted_on"], lines["calibrated_on"]) == (
        "1,007",
        "215",
        "215",
    )
    assert lines["new"] == "0"
    assert "fitted earlier" not in out
    mixed = digits(digits(tmp_path / "flat", "test", 5, labelled=False), "train", 7, labelled=False)
    code, out, _ = oodgate("inspect", bundle.path, "--check", mixed, "--json")
    found = json.loads(out)
    assert (found["rows"], found["new"]) == (12, 5)
    assert found["train"] + found["fit"] + found["cal"] == 7


def test_what_the_record_cannot_know_is_said(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    from service.cli.inspect import _check_lines, known_rows

    training = dict(bundle.manifest.training)
    training["config"] = training["config"] | {"init": "runs/other"}
    started = replace(bundle, manifest=replace(bundle.manifest, training=training))
    assert known_rows(started, "digits:test")["init"] == "runs/other"
    training["init"] = {"rows_recorded": True}
    fresh = load_images(open_data("digits:test"), bundle.spec, None, lambda rows, **_: rows).digests
    record = bundle.rows.descended(fresh[:7])
    known = known_rows(replace(started, rows=record), "digits:test")
    assert (known["ancestor"], known["new"], known["init"]) == (7, 353, None)
    said = dict(_check_lines(known | {"init": "runs/other"}))
    assert said["not checked"].startswith("rows of models before runs/other")
    assert said["trained before"].startswith("7,")


def test_the_training_log_is_shown_and_kept(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "new"
    assert oodgate("calibrate", bundle.path, "--data", "digits:test", "--out", out)[0] == 0
    assert (out / HISTORY).read_bytes() == (bundle.path / HISTORY).read_bytes()
    _, said, _ = oodgate("inspect", out)
    assert 'last epoch     {"epoch": 4' in said


def test_a_run_without_a_log(oodgate: Run, checkpoint_dir: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(checkpoint_dir, tmp_path / "copied"))
    (copied / "history.jsonl").unlink()
    out = tmp_path / "new"
    assert oodgate("calibrate", copied, "--data", "digits", "--out", out)[0] == 0
    assert json.loads((out / MANIFEST).read_text())["files"][HISTORY]["bytes"] == 0
    _, said, _ = oodgate("inspect", out)
    assert "last epoch     not recorded" in said
