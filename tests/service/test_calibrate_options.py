"""``oodgate calibrate``: modes, posteriors and sets end to end, and scores of earlier versions."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from calibration.conformal import rounded_up
from calibration.table import floats_of, logits_of, read_table, statistics_of, write_table
from model.classifier import GenerativeClassifier
from model.image import UInt8Array
from model.scoring import Scores, score
from service.bundle import MANIFEST, SEAL, Bundle
from service.predictor import Predictor
from train.data import open_data
from train.images import Images, load_images
from train.progress import watch
from train.run import SCORES_FILE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def digits(bundle: Bundle) -> Images:
    return load_images(open_data("digits:test"), bundle.spec, bundle.class_labels, watch)


def part(bundle: Bundle, split: str) -> pa.Table:
    table = bundle.calibration.table
    return table.filter(pc.equal(table["split"], split))


@pytest.mark.parametrize("mode", ["predicted_class", "label_shift_safe"])
def test_a_mode_is_kept_and_said(
    oodgate: Run, checkpoint_dir: Path, digits: Images, tmp_path: Path, mode: str
) -> None:
    out = tmp_path / "new"
    words = ("--data", "digits", "--mode", mode, "--alpha", 0.3, "--out", out)
    code, said, err = oodgate("calibrate", checkpoint_dir, *words)
    assert code == 0, err
    made = Bundle.load(out)
    ranking = made.calibration.ranking
    assert made.calibration.mode == mode
    assert ranking.sizes.sum() == 215
    assert len(ranking.sizes) == 10
    line = f"({mode}; the smallest alpha they support is {rounded_up(ranking.smallest_alpha)})"
    assert line in said
    _, card, _ = oodgate("inspect", out)
    assert line in card
    verdicts = Predictor(made)(digits.pixels[:100])
    assert {verdict.mode for verdict in verdicts} == {mode}
    assert len({verdict.reference_size for verdict in verdicts}) > 1
    for verdict in verdicts:
        size = verdict.reference_size
        assert size in ranking.sizes
        rank = verdict.p_value * (size + 1)
        assert rank == pytest.approx(round(rank))
        assert 1 <= round(rank) <= size + 1
        if mode == "predicted_class":
            top = made.class_labels.index(verdict.class_label)
            assert size == ranking.sizes[top]
            assert verdict.threshold == ranking.thresholds(0.3)[top]


@pytest.mark.parametrize("mode", ["predicted_class", "label_shift_safe"])
def test_too_few_rows_of_a_class_are_named(
    oodgate: Run, bundle: Bundle, checkpoint_dir: Path, tmp_path: Path, mode: str
) -> None:
    cal = part(bundle, "cal")
    labels = cal["label"].to_numpy()
    classes = logits_of(cal).argmax(1) if mode == "predicted_class" else labels
    counts = np.bincount(classes, minlength=10)
    out = tmp_path / "new"
    words = ("--data", "digits", "--mode", mode, "--alpha", 0.05, "--out", out)
    code, _, err = oodgate("calibrate", checkpoint_dir, *words)
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert "Traceback" not in err
    fewest = int(counts.argmin())
    assert f"error: mode {mode}, limited by class {fewest}: alpha 0.05 is too small" in last
    assert f"n = {counts[fewest]}" in last
    assert "the smallest supported alpha is 0." in last
    assert not out.exists()


def test_a_promise_by_class_needs_labels(oodgate: Run, bundle: Bundle, tmp_path: Path) -> None:
    for i, row in enumerate(open_data("digits:test")):
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / f"{i}.png").write_bytes(row.image)
    words = ("--data", tmp_path / "flat", "--mode", "label_shift_safe", "--alpha", 0.3)
    code, _, err = oodgate("calibrate", bundle.path, *words, "--out", tmp_path / "new")
    assert code == 2
    assert "error: mode label_shift_safe: 180 of 180 calibration rows have no label" in err


def test_vector_scaling(oodgate: Run, bundle: Bundle, checkpoint_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--posterior", "vector", "--out", out)
    code, _, err = oodgate(*words)
    assert code == 0, err
    made = Bundle.load(out).calibration.posterior
    assert made.method == "vector"
    assert made.scaling is not None
    assert made.scaling.weights.shape == made.scaling.offsets.shape == (10,)
    logits = logits_of(part(bundle, "cal"))
    assert np.abs(made(logits) - bundle.calibration.posterior(logits)).max() > 1e-3
    _, card, _ = oodgate("inspect", out)
    assert "\nposterior      vector scaling, temperature " in card


def test_adaptive_sets_of_their_own_level(
    oodgate: Run, bundle: Bundle, checkpoint_dir: Path, digits: Images, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    words = ("--data", "digits", "--sets", "aps", "--set-level", 0.8, "--out", out)
    code, _, err = oodgate("calibrate", checkpoint_dir, *words)
    assert code == 0, err
    made = Bundle.load(out)
    posterior = made.calibration.posterior
    assert (posterior.set_method, posterior.set_level) == ("aps", 0.8)
    _, card, _ = oodgate("inspect", out)
    assert f"80% prediction sets (aps) with q_hat {posterior.q_hat:.3f}" in card
    verdicts = Predictor(made)(digits.pixels)
    covered = [
        made.class_labels[label] in verdict.prediction_set
        for label, verdict in zip(digits.labels, verdicts, strict=True)
    ]
    assert np.mean(covered) > 0.75
    assert all(verdict.class_label in verdict.prediction_set for verdict in verdicts)


REFUSED = {
    "--mode": ("nope", "mode: found 'nope', expected one of marginal, predicted_class"),
    "--posterior": ("nope", "posterior: found 'nope', expected temperature or vector"),
    "--sets": ("nope", "set_method: found 'nope', expected lac or aps"),
    "--set-level": ("1", "1.0"),
}


@pytest.mark.parametrize("flag", REFUSED)
def test_unknown_words_are_one_line(
    oodgate: Run, checkpoint_dir: Path, tmp_path: Path, flag: str
) -> None:
    value, message = REFUSED[flag]
    out = tmp_path / "new"
    words = ("calibrate", checkpoint_dir, "--data", "digits", flag, value, "--out", out)
    code, _, err = oodgate(*words)
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in err
    assert not out.exists()


@pytest.fixture
def old_run(checkpoint_dir: Path, tmp_path: Path) -> Path:
    """A run whose training scores lack a statistic and have one that is no more."""
    copied = Path(shutil.copytree(checkpoint_dir, tmp_path / "old"))
    table = read_table(copied / SCORES_FILE).drop_columns(["stat_kurtosis"])
    table = table.rename_columns(
        ["stat_log_prob_z" if name == "stat_ladj" else name for name in table.column_names]
    )
    write_table(table.slice(0, 400), copied / SCORES_FILE)
    return copied


def test_training_scores_of_an_earlier_version_are_scored_anew(
    oodgate: Run, bundle: Bundle, old_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    code, said, err = oodgate("calibrate", old_run, "--data", "digits", "--out", out)
    assert code == 0, err
    assert "the scores of training rows are of an earlier version: 400 scored anew\n" in said
    anew, known = part(Bundle.load(out), "train"), part(bundle, "train")
    assert anew.num_rows == 400
    assert set(statistics_of(anew)) == set(statistics_of(known))
    density = dict(zip(known["id"].to_pylist(), floats_of(known, "log_prob"), strict=True))
    expected = [density[id_] for id_ in anew["id"].to_pylist()]
    # in batches of other rows: a step of rounding at most
    np.testing.assert_allclose(floats_of(anew, "log_prob"), expected, atol=0.0101)


def test_training_scores_of_an_earlier_version_are_left_out(
    oodgate: Run, digits: Images, old_run: Path, tmp_path: Path
) -> None:
    """Where their images are not at hand: nothing is decided by them."""
    out = tmp_path / "new"
    code, said, err = oodgate("calibrate", old_run, "--data", "digits:test", "--out", out)
    assert code == 0, err
    assert "are of an earlier version: left out, no p_train\n" in said
    made = Bundle.load(out)
    assert part(made, "train").num_rows == 0
    verdict = Predictor(made)(digits.pixels[:1])[0]
    assert np.isnan(verdict.p_train)
    assert 0 < verdict.p_value <= 1


def test_training_scores_of_this_version_are_kept(bundle: Bundle, checkpoint_dir: Path) -> None:
    known = read_table(checkpoint_dir / SCORES_FILE)
    kept = part(bundle, "train")
    assert sorted(kept["id"].to_pylist()) == sorted(known["id"].to_pylist())
    assert kept.num_rows == 1007


def test_scores_that_are_no_numbers_are_refused(
    oodgate: Run, checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(classifier: GenerativeClassifier, pixels: UInt8Array) -> Scores:
        found = score(classifier, pixels)
        found.statistics["kurtosis"][0] = np.nan
        return found

    monkeypatch.setattr("train.scoring.score", broken)
    out = tmp_path / "new"
    code, _, err = oodgate("calibrate", checkpoint_dir, "--data", "digits", "--out", out)
    assert code == 2
    assert "error: column stat_kurtosis, row 1007 (id 'digits/" in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.parametrize("command", ["inspect {}", "calibrate {} --data digits --out {}-new"])
def test_a_bundle_of_an_earlier_version_is_refused(
    oodgate: Run, bundle: Bundle, tmp_path: Path, command: str
) -> None:
    """Its gate knew other statistics: the model is to be calibrated again, and the line says so."""
    old = Path(shutil.copytree(bundle.path, tmp_path / "old"))
    manifest = (old / MANIFEST).read_text().replace('"schema_version": 2', '"schema_version": 1')
    (old / MANIFEST).write_text(manifest)
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    (old / SEAL).write_text(f"{digest}  {MANIFEST}\n")
    code, _, err = oodgate(*command.format(old, old).split())
    assert code == 2
    assert "error: " in err
    assert "schema_version 1: expected 2; made by another version" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("count", [0, 2])
def test_copies_are_those_that_are_asked_for(
    oodgate: Run, checkpoint_dir: Path, tmp_path: Path, count: int
) -> None:
    """Of the rows that S is fitted on, and of those alone; six of each without a flag."""
    out = tmp_path / "new"
    code, _, err = oodgate(
        "calibrate", checkpoint_dir, "--data", "digits", "--outliers", count, "--out", out
    )
    assert code == 0, err
    made = Bundle.load(out)
    copies = part(made, "outlier")
    assert copies.num_rows == count * 215
    assert set(copies["id"].to_pylist()) <= set(part(made, "fit")["id"].to_pylist())
    assert ("distortion" in made.calibration.combined.views_of) == bool(count)


def test_without_a_flag_there_are_six_copies_of_a_row(bundle: Bundle) -> None:
    copies = part(bundle, "outlier")["id"].to_pylist()
    assert sorted(copies) == sorted(6 * part(bundle, "fit")["id"].to_pylist())
