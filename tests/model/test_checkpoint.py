"""A model on disk: what is written comes back, and what does not fit is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from model.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointError,
    config_bytes,
    load_model,
    parse_model,
    save_model,
    weights_bytes,
)
from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig

CONFIG = FlowConfig(
    input_shape=(1, 4, 4),
    n_classes=2,
    stages=(StageConfig(downsample="haar", blocks=1, width=3),),
    levels=17,
    seed=3,
)
LABELS = ("cat", "Ünïcode ☂")
ARCHITECTURE = {"flow": CONFIG.to_dict()}


@pytest.fixture
def files() -> tuple[bytes, bytes]:
    return config_bytes(ARCHITECTURE, LABELS), weights_bytes(GenerativeClassifier(CONFIG))


@pytest.fixture
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(config: FlowConfig) -> None:
        raise AssertionError(f"built {config}")

    monkeypatch.setattr("model.checkpoint.GenerativeClassifier", build)


def changed(config: bytes, **changes: Any) -> bytes:
    data = json.loads(config)
    return json.dumps({**data, **changes}).encode()


def with_flow(config: bytes, **changes: Any) -> bytes:
    return changed(config, flow={**json.loads(config)["flow"], **changes})


def test_a_config_survives_json() -> None:
    assert FlowConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG


def test_a_model_survives_the_disk(tmp_path: Path) -> None:
    classifier = GenerativeClassifier(CONFIG)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.randn_like(parameter))
    save_model(tmp_path / "deep" / "folder", Checkpoint(classifier=classifier, class_labels=LABELS))
    loaded = load_model(tmp_path / "deep" / "folder")
    assert loaded.class_labels == LABELS
    assert loaded.classifier.config == CONFIG
    found, expected = loaded.classifier.state_dict(), classifier.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {path.name for path in (tmp_path / "deep" / "folder").iterdir()} == {
        CONFIG_FILE,
        WEIGHTS_FILE,
    }


def test_equal_models_are_equal_bytes(files: tuple[bytes, bytes]) -> None:
    assert files == (
        config_bytes(ARCHITECTURE, LABELS),
        weights_bytes(GenerativeClassifier(CONFIG)),
    )


@pytest.mark.parametrize("missing", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(tmp_path: Path, files: tuple[bytes, bytes], missing: str) -> None:
    for name, content in zip((CONFIG_FILE, WEIGHTS_FILE), files, strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version 2: expected 1"),
        ({"classes": ["one"]}, "1 class labels for 2 classes"),
        ({"classes": 5}, "config.json"),
        ({"flow": {}}, "not an architecture"),
        ({"flow": 7}, "config.json"),
        ({"flow": None}, "config.json"),
        ({"classes": "ab"}, "expected a list of names"),
        ({"classes": ["a", 5]}, "expected a list of names"),
        ({"classes": ["a", ""]}, "expected a list of names, none empty"),
        ({"classes": ["a", "a"]}, "two classes are 'a': expected different names"),
        ({"schema_version": None}, "schema_version None: expected 1"),
        ({"resnet": {}}, "a ResNet baseline, which has no density"),
    ],
)
def test_config_refusals(files: tuple[bytes, bytes], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_model(changed(files[0], **changes), files[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": [2, 4, 4]}, "expected 1 or 3 channels"),
        ({"input_shape": [1, 4]}, "config.json"),
        ({"input_shape": [1, 5, 4]}, "cannot be halved 1 times: expected multiples of 2"),
        ({"input_shape": [1, 0, 4]}, "expected"),
        ({"input_shape": [1, -4, -4]}, "expected"),
        ({"dropout": 1.0}, "dropout 1.0: expected 0 to below 1"),
        ({"levels": 1}, "levels 1: expected 2 to 256"),
        ({"levels": 257}, "levels 257"),
        ({"n_classes": 0}, "n_classes 0: expected 1 to 16"),
        ({"n_classes": 17}, "n_classes 17"),
        ({"clamp": 0.0}, "clamp 0.0"),
        ({"clamp": "wide"}, "clamp 'wide': expected a number"),
        ({"mu_init": float("nan")}, "mu_init"),
        ({"stages": [{"blocks": 1, "width": 0}]}, "width 0"),
        ({"stages": [{"blocks": -1, "width": 3}]}, "-1 blocks"),
        ({"stages": [{"blocks": 1, "width": 3, "downsample": "pool"}]}, "downsample 'pool'"),
        ({"stages": [{"blocks": 1}]}, "not an architecture"),
        ({"stages": [{"blocks": 1, "width": 3}]}, "put a 'haar' stage"),
        ({"surprise": 1}, "surprise"),
        ({"levels": 17.5}, "levels 17.5: expected a whole number"),
        ({"levels": True}, "levels True: expected a whole number"),
        ({"n_classes": 2.0}, "n_classes 2.0"),
        ({"n_classes": "2"}, "n_classes '2'"),
        ({"seed": None}, "seed None"),
        ({"seed": -1}, "seed -1: expected 0 or more"),
        ({"seed": 2**63}, "seed 9223372036854775808: expected a whole number"),
        ({"means_rank": 1.5}, "means_rank 1.5"),
        ({"dropout": "x"}, "dropout 'x': expected a number"),
        ({"clamp": True}, "clamp True: expected a number"),
        ({"input_shape": [1, 4.0, 4]}, "4.0: expected a whole number"),
        ({"input_shape": "144"}, "expected a whole number"),
        ({"input_shape": [1, 2**14, 2**14]}, "expected sides of 1 to 4096 pixels"),
        ({"stages": [{"blocks": True, "width": 3}]}, "blocks True"),
        ({"stages": [{"blocks": 1, "width": 3.5}]}, "width 3.5"),
        ({"stages": [{"blocks": 1, "width": 10**4000}]}, "width 1000"),
        ({"stages": ["x"]}, "not an architecture"),
    ],
)
def test_flow_refusals(files: tuple[bytes, bytes], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_model(with_flow(files[0], **changes), files[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": [{"blocks": 1, "width": 10**9, "downsample": "haar"}]},
        {"stages": [{"blocks": 3000, "width": 3, "downsample": "haar"}]},
        {"input_shape": [1, 4096, 4096]},
        {"means": "low-rank", "means_rank": 10**10},
    ],
)
@pytest.mark.usefixtures("nothing_built")
def test_more_than_the_weights_is_never_built(
    files: tuple[bytes, bytes], changes: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"config.json: holds [\d,]+ values, exp") as e:
        parse_model(with_flow(files[0], **changes), files[1])
    assert "\n" not in str(e.value)


def test_deep_nesting_is_refused(files: tuple[bytes, bytes]) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: nested too deeply"):
        parse_model(b"[" * 100_000, files[1])


def test_as_many_values_in_other_shapes_are_refused(files: tuple[bytes, bytes]) -> None:
    """In one line that names the first tensor that is wrong."""
    state = load(files[1])
    moved = dict(state)
    moved["other"] = moved.pop("log_prior")
    with pytest.raises(CheckpointError, match=r"log_prior: found no such tensor, expected \(2,\)"):
        parse_model(files[0], save(moved))
    turned = {**state, "class_means.weight": state["class_means.weight"].T.contiguous()}
    with pytest.raises(CheckpointError, match=r"found \(16, 2\), expected \(2, 16\)$"):
        parse_model(files[0], save(turned))


def test_the_file_of_a_loaded_model_is_named(tmp_path: Path, files: tuple[bytes, bytes]) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(changed(files[0], classes=["a", "a"]))
    (tmp_path / WEIGHTS_FILE).write_bytes(files[1])
    with pytest.raises(CheckpointError, match=f"^{tmp_path / CONFIG_FILE}: two classes"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"{}"])
def test_what_is_no_config(files: tuple[bytes, bytes], content: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        parse_model(content, files[1])


def test_truncated_weights_are_refused(files: tuple[bytes, bytes]) -> None:
    config, weights = files
    for length in (0, 1, 7, 8, 9, 100, len(weights) // 2, len(weights) - 1):
        with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
            parse_model(config, weights[:length])


def test_a_damaged_header_is_refused_or_harmless(files: tuple[bytes, bytes]) -> None:
    """Whatever byte of the header is damaged: a ``CheckpointError`` or a model, nothing else."""
    config, weights = files
    header = 8 + int.from_bytes(weights[:8], "little")
    refused = 0
    for position in range(0, header, 7):
        damaged = bytearray(weights)
        damaged[position] ^= 0x21
        try:
            parse_model(config, bytes(damaged))
        except CheckpointError:
            refused += 1
    assert refused > header // 14


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, n_classes=3),
        replace(CONFIG, input_shape=(3, 4, 4)),
        replace(CONFIG, stages=(StageConfig(downsample="haar", blocks=1, width=4),)),
        replace(CONFIG, stages=(StageConfig(downsample="haar", blocks=2, width=3),)),
    ],
)
def test_weights_of_another_architecture_are_refused(
    files: tuple[bytes, bytes], other: FlowConfig
) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit config\.json"):
        parse_model(files[0], weights_bytes(GenerativeClassifier(other)))


def test_weights_that_are_no_numbers_are_refused(files: tuple[bytes, bytes]) -> None:
    state = load(files[1])
    state["class_means.weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="class_means"):
        parse_model(files[0], save(state))


@pytest.mark.parametrize("index", [0, 99, -1])
def test_an_index_that_permutes_nothing_is_refused(files: tuple[bytes, bytes], index: int) -> None:
    """All channels from one place, or from places that do not exist."""
    config, weights = files
    state = load(weights)
    name = next(name for name in state if name.endswith(".index"))
    state[name] = torch.full_like(state[name], index)
    with pytest.raises(
        CheckpointError, match=rf"{name.removesuffix('.index')}: .* no.* permutation"
    ):
        parse_model(config, save(state))
