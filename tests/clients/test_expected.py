"""What holds tensors of stock clients against verdicts finds every kind of difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients import environments
from tests.clients.expected import NUMPY, OUTPUTS, Case, Mismatch, agree, agree_classification

LABELS = ("cat", "dog", "owl")
REFERENCE = 99


def _verdict(index: int, decision: str, reason: str | None) -> dict[str, Any]:
    posterior = [0.15, 0.15, 0.15]
    posterior[index] = 0.7
    order = sorted(range(3), key=lambda k: -posterior[k])
    return {
        "class": {"index": index, "label": LABELS[index]},
        "posterior": [{"label": LABELS[k], "probability": posterior[k]} for k in order],
        "prediction_set": [LABELS[index]],
        "p_value": 0.25,
        "p_typicality": None,
        "threshold": 0.04,
        "reference_size": REFERENCE,
        "decision": decision,
        "rejected": decision == "reject",
        "reason": reason,
        "scores": {"score": 1.5, "log_prob": -2000.0},
    }


VERDICTS = (_verdict(1, "accept", None), _verdict(2, "reject", "atypical_input"))


def _outputs() -> dict[str, Any]:
    values: dict[str, list[Any]] = {
        "class_index": [1, 2],
        "class_label": [b"dog", b"owl"],
        "posterior": [[0.15, 0.7, 0.15], [0.15, 0.15, 0.7]],
        "prediction_set": [[False, True, False], [False, False, True]],
        "p_value": [0.25, 0.25],
        "p_typicality": [np.nan, np.nan],
        "log_prob": [-2000.0, -2000.0],
        "score": [1.5, 1.5],
        "threshold": [0.04, 0.04],
        "decision": [b"accept", b"reject"],
        "rejected": [False, True],
        "reason": [b"", b"atypical_input"],
    }
    return {name: np.array(value, NUMPY[OUTPUTS[name]]) for name, value in values.items()}


def test_the_same_agrees_with_the_last_digits_apart() -> None:
    outputs = _outputs()
    agree(outputs, VERDICTS, LABELS)
    outputs["p_value"] = outputs["p_value"] + 1 / (REFERENCE + 1)
    outputs["score"] = outputs["score"] + 1e-3
    outputs["class_label"] = np.array(["dog", "owl"], dtype=object)
    agree(outputs, VERDICTS, LABELS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_one_value_that_differs_is_found(name: str) -> None:
    outputs = _outputs()
    other = {"BOOL": False, "BYTES": b"fish", "INT64": 0, "FP32": 0.3, "FP64": 0.5}
    outputs[name][1] = other[OUTPUTS[name]]
    with pytest.raises(Mismatch, match=f"{name} of image 1"):
        agree(outputs, VERDICTS, LABELS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_shape_type_and_absence_are_found(name: str) -> None:
    good = _outputs()[name]
    for bad in (good[:1], good[None], None):
        with pytest.raises(Mismatch, match=f"{name} has shape"):
            agree({name: bad}, VERDICTS, LABELS)
    with pytest.raises(Mismatch, match=f"{name} is complex"):
        agree({name: np.zeros(good.shape, complex)}, VERDICTS, LABELS)


def test_two_ranks_are_too_many() -> None:
    outputs = {"p_value": np.array([0.25, 0.27])}
    with pytest.raises(Mismatch, match="p_value of image 1"):
        agree(outputs, VERDICTS, LABELS)


def test_classification() -> None:
    good = [["0.7:1:dog", "0.15:0:cat"], ["0.7:2:owl", "0.15:0:cat"]]
    agree_classification(np.array(good, dtype=object), 2, VERDICTS, LABELS)
    for entry in ("0.7:1:owl", "0.6:2:owl", "0.15:1:dog"):
        bad = np.array([good[0], [entry, good[1][1]]], dtype=object)
        with pytest.raises(Mismatch, match="classification"):
            agree_classification(bad, 2, VERDICTS, LABELS)
    backwards = np.array([good[0], good[1][::-1]], dtype=object)
    with pytest.raises(Mismatch, match="not sorted"):
        agree_classification(backwards, 2, VERDICTS, LABELS)
    with pytest.raises(Mismatch, match="shape"):
        agree_classification(np.array(good, dtype=object), 3, VERDICTS, LABELS)


def test_a_case_survives_its_file(tmp_path: Path) -> None:
    case = Case(
        model="animals",
        version="0123456789ab",
        labels=LABELS,
        images=(b"\x00\xff", b"two"),
        pixels=np.arange(2 * 1 * 2 * 3, dtype=np.uint8).reshape(2, 1, 2, 3),
        verdicts=VERDICTS,
        verdicts_at_alpha=VERDICTS,
    )
    case.save(tmp_path / "case.json")
    found = Case.load(tmp_path / "case.json")
    assert np.array_equal(found.pixels, case.pixels)
    assert found.pixels.dtype == np.uint8
    assert found.channels_last().shape == (2, 2, 3, 1)
    for name in ("model", "version", "labels", "images", "verdicts", "verdicts_at_alpha"):
        assert getattr(found, name) == getattr(case, name)


def test_an_environment_of_other_requirements_is_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    assert not environments.is_built("triton")
    folder = environments.python("triton").parents[1]
    folder.mkdir(parents=True)
    (folder / "requirements.sha256").write_text("of another file")
    assert not environments.is_built("triton")
