"""What each version of a bundle answers, from its Predictor in this process, and who is wrong.

An answer must be one version's alone: the version that it names decides what every field of it has
to be. The last digits of a number depend on the size of the batch, and so does a p-value, by one
rank among ``reference_size``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.image import decode_all
from service.answer import ModelName, answer
from service.bundle import Bundle
from service.predictor import Predictor
from service.verdict import Verdict
from tests.clients.expected import Array, Mismatch, agree

MAX_PIXELS = 25_000_000
#: Fields that are a rank among the reference, and by how many ranks they may differ.
RANKS = {"p_value": 1, "p_typicality": 2}
#: Fields that no batch changes.
EXACT = ("alpha", "delta", "threshold")
#: Relative and absolute difference of all other numbers.
CLOSE = (1e-3, 0.01)


@dataclass(frozen=True, kw_only=True)
class Version:
    """One bundle's answers, as ``POST /v1/classify`` gives them, to each of the images."""

    path: Path
    name: str
    version: str
    labels: tuple[str, ...]
    answers: tuple[Mapping[str, Any], ...]


def versions_of(paths: Sequence[Path], images: Sequence[bytes]) -> tuple[Version, ...]:
    """Raises ``ValueError`` where two of them give one image the same answer."""
    found = tuple(_version(path, images) for path in paths)
    for i in range(len(images)):
        told_apart = {
            (v.answers[i]["class"]["label"], v.answers[i]["p_value"], v.answers[i]["threshold"])
            for v in found
        }
        if len(told_apart) != len(found):
            raise ValueError(f"image {i} does not tell the versions apart")
    return found


def _version(path: Path, images: Sequence[bytes]) -> Version:
    bundle = Bundle.load(path)
    predictor = Predictor(bundle, "cpu")
    verdicts = predictor(decode_all(images, predictor.spec, MAX_PIXELS))
    name = ModelName(name=bundle.name, version=bundle.version)
    return Version(
        path=path,
        name=bundle.name,
        version=bundle.version,
        labels=bundle.class_labels,
        answers=tuple(
            answer(verdict, bundle.class_labels, name, "", None).model_dump(
                mode="json", by_alias=True
            )
            for verdict in verdicts
        ),
    )


def steady(path: Path, images: Sequence[bytes]) -> list[bytes]:
    """Those whose answer is far enough from where a last digit decides to be the same in any batch:
    p-value from the threshold, and the classes that are in the prediction set."""
    bundle = Bundle.load(path)
    predictor = Predictor(bundle, "cpu")
    verdicts = predictor(decode_all(images, predictor.spec, MAX_PIXELS))
    q_hat = bundle.calibration.posterior.q_hat
    return [i for i, verdict in zip(images, verdicts, strict=True) if _is_steady(verdict, q_hat)]


def _is_steady(verdict: Verdict, q_hat: float) -> bool:
    rank = 1 / (verdict.reference_size + 1)
    from_edge = min(abs(1 - p - q_hat) for p in verdict.posterior)
    first, second = sorted(verdict.posterior)[:-3:-1]
    far = abs(verdict.p_value - verdict.threshold) > 2 * rank
    return far and from_edge > 1e-3 and first - second > 1e-2


def check_answer(found: Mapping[str, Any], versions: Sequence[Version], image: int) -> str:
    """The version of an answer of our own interface; raises ``Mismatch``."""
    version = _named(found["model"]["version"], versions)
    wanted = dict(version.answers[image])
    if found["model"] != wanted.pop("model"):
        raise Mismatch(f"model is {found['model']}")
    del wanted["id"]
    ranks = {name: n / (wanted["reference_size"] + 1) for name, n in RANKS.items()}
    for name, value in wanted.items():
        seen = found[name]
        if name in EXACT:
            same = seen == value
        elif name in ranks:
            same = _close(seen, value, (0, ranks[name]))
        elif name == "posterior":
            same = _same(_by(seen, "label"), _by(value, "label"))
        elif name == "unusual":  # which three they are may hang on a last digit
            same = len(seen) == len(value)
        else:
            same = _same(seen, value)
        if not same:
            raise Mismatch(f"{name} of image {image} is {seen}: {version.version} has {value}")
    return version.version


def check_tensors(
    version: str,
    parameters: Mapping[str, Any],
    outputs: Mapping[str, Array | None],
    versions: Sequence[Version],
    image: int,
) -> str:
    """The same for the outputs of the Open Inference Protocol, of one image."""
    named = _named(version, versions)
    wanted = named.answers[image]
    for name in ("alpha", "mode"):
        if not _same(parameters[name], wanted[name]):
            raise Mismatch(f"{name} is {parameters[name]}: {version} has {wanted[name]}")
    agree(outputs, [wanted], named.labels)
    return version


def _named(version: str, versions: Sequence[Version]) -> Version:
    for known in versions:
        if known.version == version:
            return known
    raise Mismatch(f"version {version} is none of {[v.version for v in versions]}")


def _by(entries: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    return {entry[name]: entry for entry in entries}


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(wanted, float):
        return _close(found, wanted, CLOSE)
    return bool(found == wanted)


def _close(found: Any, wanted: float | None, tolerance: tuple[float, float]) -> bool:
    if found is None or wanted is None:
        return found is wanted
    relative, absolute = tolerance
    return math.isclose(found, wanted, rel_tol=relative, abs_tol=absolute + 1e-9)
