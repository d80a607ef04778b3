"""The console command: help, what each command says, and errors of one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibration.rows import is_in
from service.bundle import MANIFEST, Bundle
from train.data import open_data

Run = Callable[..., tuple[int, str, str]]

COMMANDS = (
    *("train", "sweep", "calibrate", "evaluate", "inspect", "explain"),
    *("score", "drift", "serve", "deploy"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(oodgate: Run, command: str) -> None:
    code, out, _ = oodgate(command, "--help")
    assert code == 0
    assert f"oodgate {command}" in out


def test_help_names_every_command(oodgate: Run) -> None:
    code, out, _ = oodgate("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


def folder_of_digits(root: Path, start: int, stop: int, *, labelled: bool) -> Path:
    for i, row in enumerate(open_data("digits:test")):
        if start <= i < stop:
            path = root / (str(row.label) if labelled else ".") / Path(row.id).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row.image)
    return root


def test_inspect_prints_the_card(oodgate: Run, bundle: Bundle) -> None:
    code, out, _ = oodgate("inspect", bundle.path)
    assert code == 0
    for text in (bundle.version, "recipe digits", "17 grey levels", "215 reference rows"):
        assert text in out
    names = len(bundle.calibration.combined.names)
    for line in (
        f"at p <= {bundle.calibration.threshold():.5f} among 215 reference rows (marginal; ",
        "\nposterior      temperature scaling, temperature ",
        "; 95% prediction sets (lac) with q_hat ",
        f"\nscore          {names} statistics as one, fitted on 215 rows and 1,290 distorted "
        "copies of them\n",
    ):
        assert line in out
    code, out, _ = oodgate("inspect", bundle.path, "--json")
    assert out.encode() == (bundle.path / MANIFEST).read_bytes()


def test_inspect_by_name(oodgate: Run, bundle: Bundle) -> None:
    code, out, _ = oodgate("inspect", "digits", "--bundles", bundle.path.parent)
    assert code == 0
    assert bundle.version in out


def test_calibrate_on_training_data(oodgate: Run, checkpoint_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    code, said, _ = oodgate(
        "calibrate", checkpoint_dir, "--data", "digits", "--out", out, "--alpha", 0.1, "--name", "n"
    )
    assert code == 0
    assert "using the rows held out from training, 215 rows to fit and 215 to calibrate" in said
    made = Bundle.load(out)
    assert made.name == "n"
    assert made.calibration.alpha == 0.1
    assert f"bundle n {made.version} in {out}" in said


def test_recalibrate_on_other_images(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    code, said, _ = oodgate(
        "calibrate", bundle.path, "--data", "digits:test", "--out", tmp_path / "new"
    )
    assert code == 0
    assert "new data: using 180 rows to fit and 180 to calibrate of 360" in said
    assert "refused" not in said
    made = Bundle.load(tmp_path / "new")
    assert made.calibration.reference_size == 180
    assert not made.calibration.posterior_borrowed
    assert made.manifest.data["held_out_from_training"] is False
    assert made.manifest.data["calibration"] == "digits:test"
    assert not is_in(made.rows.cal, bundle.rows.train).any()
    assert made.manifest.training == bundle.manifest.training


def test_recalibrate_on_more_of_the_same(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    """A user's set that has grown is used whole, though an earlier calibration knows a part."""
    data, first = tmp_path / "images", tmp_path / "first"
    folder_of_digits(data, 0, 200, labelled=True)
    assert oodgate("calibrate", bundle.path, "--data", data, "--out", first)[0] == 0
    folder_of_digits(data, 200, 300, labelled=True)
    code, said, _ = oodgate("calibrate", first, "--data", data, "--out", tmp_path / "second")
    assert code == 0
    assert "of 300" in said
    # back on the training data: still nothing that was trained on
    code, said, _ = oodgate("calibrate", first, "--data", "digits", "--out", tmp_path / "third")
    assert code == 0
    assert "refused 1,007 rows that the model was trained on" in said


def test_recalibrate_without_labels_keeps_the_temperature(
    oodgate: Run, bundle: Bundle, tmp_path: Path
) -> None:
    data = folder_of_digits(tmp_path / "images", 0, 200, labelled=False)
    code, _, _ = oodgate("calibrate", bundle.path, "--data", data, "--out", tmp_path / "new")
    assert code == 0
    made = Bundle.load(tmp_path / "new").calibration
    assert made.posterior_borrowed
    assert made.posterior.temperature == bundle.calibration.posterior.temperature
    assert made.posterior.q_hat == bundle.calibration.posterior.q_hat
    assert made.reference_size == 100
    code, out, _ = oodgate("inspect", tmp_path / "new")
    assert "kept from an earlier calibration" in out


def test_a_mixture_refuses_what_was_trained_on(
    oodgate: Run, bundle: Bundle, tmp_path: Path
) -> None:
    data = folder_of_digits(tmp_path / "images", 0, 200, labelled=True)
    for row, _ in zip(open_data("digits"), range(300), strict=False):
        (data / str(row.label) / Path(row.id).name).write_bytes(row.image)
    code, said, _ = oodgate("calibrate", bundle.path, "--data", data, "--out", tmp_path / "new")
    assert code == 0
    made = Bundle.load(tmp_path / "new")
    refused = made.manifest.data["refused_trained_on"]
    assert 100 < refused < 300
    assert f"refused {refused:,} rows that the model was trained on" in said
    assert len(made.rows.fit) + len(made.rows.cal) == 500 - refused


def test_score_writes_a_table(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "table"
    words = ("score", bundle.path, "--data", "digits:test", "--out", out, "--local")
    code, said, _ = oodgate(*words, "--no-statistics")
    assert code == 0
    assert f"{out}: 360 rows: " in said
    table = pq.read_table(out)
    assert table.num_rows == 360
    assert table["label"].null_count == 0
    assert not any(name.startswith("stat_") for name in table.column_names)
    accuracy = [a == b for a, b in zip(table["label"], table["class_index"], strict=True)]
    assert sum(accuracy) > 280


def strangers(root: Path) -> Path:
    """Digits under names that the model does not know."""
    folder_of_digits(root, 0, 5, labelled=False)
    (root / "squid").mkdir(parents=True)
    for path in root.glob("*.png"):
        path.rename(root / "squid" / path.name)
    return root


def test_strangers_have_no_labels(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    data, out = strangers(tmp_path / "data"), tmp_path / "table"
    words = ("score", bundle.path, "--data", data, "--out", out, "--local")
    code, _, err = oodgate(*words)
    assert code == 2
    assert err.startswith("error: classes ['squid'] are not among the model's")
    code, _, _ = oodgate(*words, "--no-labels")
    assert code == 0
    assert pq.read_table(out)["label"].null_count == 5


def test_a_table_without_rows_says_which_model_it_is_of(
    oodgate: Run, bundle: Bundle, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "none.parquet")
    data, out = tmp_path / "none.parquet", tmp_path / "table"
    code, said, _ = oodgate("score", bundle.path, "--data", data, "--out", out, "--local")
    assert code == 0
    assert f"rows       0 by {bundle.name} {bundle.version}\n" in said
    summary = json.loads((out / "_report" / "summary.json").read_text())
    assert (summary["model_name"], summary["model_version"]) == (bundle.name, bundle.version)


ERRORS = {
    "no such data": ("score {bundle} --data nope --out {tmp}/o --local", "no such file or folder"),
    "no bundle": ("inspect nope", "no bundle 'nope'"),
    "a checkpoint is none": ("inspect {checkpoint}", "is no bundle"),
    "no such Ray": (
        "score {bundle} --data digits --out {tmp}/o --address 127.0.0.1:9",
        "cannot reach Ray at 127.0.0.1:9",
    ),
    "no address": (
        "score {bundle} --data digits --out {tmp}/o --address here",
        "expected host:port",
    ),
    "workers": ("score {bundle} --data digits --out {tmp}/o --workers 3-2", "--workers 3-2"),
    "fdr": ("score {bundle} --data digits --out {tmp}/o --local --fdr 1", "--fdr 1.0: expected"),
    "one process and workers": (
        "score {bundle} --data digits --out {tmp}/o --local --workers 2",
        "expected no --workers",
    ),
    "out in data": (
        "score {bundle} --data {tmp}/flat --out {tmp}/flat/o --local",
        "lies in --data",
    ),
    "fdr of scores": (
        "score {checkpoint} --data digits --out {tmp}/o --local --fdr 0.1",
        "is not calibrated, so its images have no p-values",
    ),
    "alpha too small": (
        "score {bundle} --data digits --out {tmp}/o --local --alpha 0.001",
        "0.001",
    ),
    "alpha of nothing": ("calibrate {checkpoint} --data digits --out {tmp}/o --alpha 0", "alpha"),
    "delta": ("calibrate {checkpoint} --data digits --out {tmp}/o --delta 1", "delta"),
    "out exists": ("calibrate {checkpoint} --data digits --out {tmp}", "never overwritten"),
    "out is full": ("score {bundle} --data digits --out {bundle} --local", "not an empty folder"),
    "recipe": ("train --data digits --recipe nope --out {tmp}/o", "'nope': expected one of"),
    "no recipe": ("train --data digits --out {tmp}/o", "--data and --recipe are needed"),
    "learning rate": (
        "train --data digits --recipe digits --learning-rate -1 --out {tmp}/o",
        "learning_rate -1.0",
    ),
    "settings at resume": ("train --resume --epochs 9 --out {tmp}/o", "give only --out"),
    "nothing to resume": ("train --resume --out {tmp}/o", "not a training run"),
    "a run is there": (
        "train --data digits --recipe digits --out {checkpoint}",
        "already holds a run",
    ),
    "no labels": ("train --data {tmp}/flat --recipe digits --out {tmp}/o", "has no labels"),
    "alien labels": (
        "calibrate {checkpoint} --data {tmp}/squids --alpha 0.7 --out {tmp}/o",
        "classes ['squid']",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_a_user_can_mend_is_one_line(
    oodgate: Run,
    bundle_dir: Path,
    checkpoint_dir: Path,
    tmp_path: Path,
    name: str,
) -> None:
    folder_of_digits(tmp_path / "flat", 0, 3, labelled=False)
    strangers(tmp_path / "squids")
    words, message = ERRORS[name]
    places = {
        "bundle": bundle_dir,
        "checkpoint": checkpoint_dir,
        "tmp": tmp_path,
    }
    code, _, err = oodgate(*words.format(**places).split())
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        "train --data digits --recipe digits --beta -1 --out {tmp}/o",
        "train --data digits --recipe digits --beta nan --out {tmp}/o",
        "train --data digits --recipe digits --seed -1 --out {tmp}/o",
        "train --data digits --recipe digits --epochs 0 --out {tmp}/o",
        "score",
        "nonsense",
    ],
)
def test_usage_errors(oodgate: Run, tmp_path: Path, words: str) -> None:
    code, _, err = oodgate(*words.format(tmp=tmp_path).split())
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("missing", ["rows.bin", "train_scores.parquet", "model/config.json"])
def test_an_incomplete_checkpoint(
    oodgate: Run, checkpoint_dir: Path, tmp_path: Path, missing: str
) -> None:
    copied = Path(shutil.copytree(checkpoint_dir, tmp_path / "copied"))
    (copied / missing).unlink()
    code, _, err = oodgate("calibrate", copied, "--data", "digits", "--out", tmp_path / "o")
    assert code == 2
    assert missing in err


def test_an_unfinished_run_is_refused(oodgate: Run, checkpoint_dir: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(checkpoint_dir, tmp_path / "copied"))
    run = json.loads((copied / "run.json").read_text())
    for progress in ({"finished": False}, {}):
        (copied / "run.json").write_text(json.dumps(run | {"progress": progress}))
        code, _, err = oodgate("calibrate", copied, "--data", "digits", "--out", tmp_path / "o")
        assert code == 2
        assert "training has not finished; go on with it by oodgate train --resume" in err
