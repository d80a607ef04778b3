"""Models by name, and the test that a bundle has to pass before it may answer."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from model.image import UInt8Array
from service.bundle import Bundle, BundleError
from service.errors import UnknownModelError
from service.predictor import Predictor
from service.served import Models, load, self_test
from service.verdict import Verdict
from tests.service.fakes import FakePredictor, model, runtime

Change = Callable[[Verdict], Verdict]


def noted(images: int, seconds: float, gate_s: float) -> None:
    """Of a batch."""


def test_models_are_found_by_name_and_the_first_one_without() -> None:
    first, second = model("a"), model("b")
    models = Models([first, second])
    assert models.default is models.find() is models.find("a") is models.find("a", "1") is first
    assert models.find("b") is models.find(name="b", version="1") is second
    assert list(models) == [first, second]
    assert models.waiting() == 0


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("c", "", r"no model 'c' is served: expected one of a, b"),
        ("A", "", r"no model 'A'"),
        ("b", "2", r"model b has no version '2' here: expected 1, or none"),
        ("", "2", r"model a has no version '2' here: expected 1"),
        ("x" * 5000, "", rf"no model '{'x' * 100}' is"),
        ("a", "x" * 5000, rf"version '{'x' * 100}' here"),
    ],
)
def test_what_is_not_served_is_named_with_what_is(name: str, version: str, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        Models([model("a"), model("b")]).find(name, version)


def test_a_model_takes_the_place_of_its_name() -> None:
    models = Models([model("a"), model("b")])
    old, new = models.find("a"), model("a", "2")
    models.put(new)
    assert models.default is models.find("a", "2") is new
    assert [served.name.name for served in models] == ["a", "b"]
    with pytest.raises(UnknownModelError, match="expected 2"):
        models.find("a", old.name.version)


class Unsound(FakePredictor):
    """Changes each verdict, or those in batches, or those of single images."""

    def __init__(self, change: Change, sizes: range = range(1, 1000)) -> None:
        super().__init__()
        self._change, self._sizes = change, sizes

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        found = super().__call__(images, alphas)
        if len(images) not in self._sizes:
            return [replace(v, class_index=0, class_label="0") for v in found]
        return [replace(self._change(v), class_index=0, class_label="0") for v in found]


def try_out(predictor: Any) -> None:
    self_test(cast(Predictor, predictor), 8)


def same(verdict: Verdict) -> Verdict:
    return verdict


def changing(**fields: Any) -> Change:
    return lambda verdict: replace(verdict, **fields)


def test_a_sound_model_passes() -> None:
    predictor = Unsound(same)
    try_out(predictor)
    assert sorted(map(len, predictor.batches)) == [1, 8]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "fields",
    [
        {"p_value": NAN},
        {"p_value": 0.0},
        {"p_value": 1.5},
        {"score": NAN},
        {"score": INF},
        {"log_prob": -INF},
        {"threshold": NAN},
        {"posterior": (0.5, 0.4)},
        {"posterior": (NAN, 0.4)},
        {"posterior": ()},
    ],
)
@pytest.mark.parametrize("sizes", [range(1, 2), range(2, 1000)])
def test_numbers_that_cannot_be_are_refused(fields: dict[str, Any], sizes: range) -> None:
    with pytest.raises(BundleError, match="for an image of noise"):
        try_out(Unsound(changing(**fields), sizes))


@pytest.mark.parametrize(("ranks", "passes"), [(1, True), (2, False)])
def test_a_batch_may_differ_by_one_rank_from_the_single_image(ranks: int, passes: bool) -> None:
    predictor = Unsound(lambda v: replace(v, p_value=v.p_value + ranks / 100), range(2, 1000))
    if passes:
        try_out(predictor)
    else:
        with pytest.raises(BundleError, match=r"p_value 0\.5 to an image alone, .* 0\.52 in"):
            try_out(predictor)


def test_a_batch_that_names_another_class_is_refused() -> None:
    class Fickle(FakePredictor):
        def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
            found = super().__call__(images, alphas)
            return [replace(v, class_index=len(images), class_label="x") for v in found]

    with pytest.raises(BundleError, match="its numerics cannot be trusted"):
        try_out(Fickle())


def test_a_model_that_raises_is_refused() -> None:
    class Raising(FakePredictor):
        def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
            raise MemoryError("no room for 8")

    with pytest.raises(BundleError, match=r"fails on an image of noise: MemoryError\('no room"):
        try_out(Raising())


def test_a_real_bundle_is_loaded_and_answers_as_its_predictor(bundle: Bundle) -> None:
    served = load(bundle.path, runtime(), noted)
    assert (served.name.name, served.name.version) == (bundle.name, bundle.version)
    assert served.labels == bundle.class_labels
    assert served.spec == bundle.spec
    shape = (6, *bundle.spec.shape)
    noise = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    found = asyncio.run(served.classify(noise, None)).verdicts
    expected = served.predictor(noise)
    assert [v.decision for v in found] == [v.decision for v in expected]
    assert [v.p_value for v in found] == pytest.approx([v.p_value for v in expected], abs=0.02)


def test_a_bundle_that_was_touched_is_not_served(bundle_dir: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    shutil.copytree(bundle_dir, touched)
    weights = touched / "model/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        load(touched, runtime(), noted)
