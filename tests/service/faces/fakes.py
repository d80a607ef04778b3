"""A service without a network behind its faces."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from fastapi import FastAPI
from PIL import Image

from calibration.errors import UnsupportedAlphaError
from model.image import InputSpec, UInt8Array
from service import metrics
from service.answer import ModelName
from service.engine import Engine, Limits
from service.grpc_api import GrpcFace
from service.http_api import Doors, create_app
from service.keys import Keys
from service.oip.metadata import Values
from service.oip.rpc import InferenceFace
from service.predictor import Predictor
from service.recorder import Recorder
from service.served import Models, Runtime, ServedModel
from service.tally import Tally
from service.verdict import Decision, Unusual, Verdict

LABELS = tuple(f"class {k}" for k in range(30))
VERSION = "0123456789ab"
#: A model of grey images, which answers where none is named, and one of coloured ones.
GREY, COLOUR = "fake", "colour"

LIMITS = Limits(
    max_body_bytes=20_000,
    max_pixels=10_000,
    max_images=8,
    max_waiting=4,
    read_timeout_s=30,
    queue_timeout_s=30,
)

VERDICT = Verdict(
    class_index=0,
    class_label=LABELS[0],
    posterior=tuple(2.0 ** -(k + 1) for k in range(30)),
    prediction_set=LABELS[:2],
    p_value=0.4,
    p_typicality=0.4,
    p_train=float("nan"),
    alpha=0.05,
    delta=0.05,
    mode="marginal",
    threshold=0.04,
    reference_size=215,
    decision=Decision.ACCEPT,
    rejected=False,
    reason=None,
    score=3.5,
    log_prob=-12.5,
    bits_per_dim=4.0,
    unusual=(Unusual(statistic="ladj", p_value=0.01),),
)

#: First pixels with a meaning: a score that no number says, and an image that breaks the model.
ENDLESS, BROKEN = 7, 255


class FakePredictor:
    """The class is the image's first pixel; the first ones are rejected, the next is ambiguous."""

    class_labels = LABELS
    threshold = VERDICT.threshold
    reference_size = VERDICT.reference_size
    places = (1, 1)

    def __init__(self, channels: int = 1) -> None:
        self.spec = InputSpec(shape=(channels, 4, 4))
        self.batches: list[int] = []

    def check_alpha(self, alpha: float | None) -> None:
        if alpha is not None and alpha < 0.01:
            raise UnsupportedAlphaError("the smallest supported alpha is 0.01")

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        self.batches.append(len(images))
        if (images[:, 0, 0, 0] == BROKEN).any():
            raise ArithmeticError("secret")
        return [verdict_of(int(x[0, 0, 0]), a) for x, a in zip(images, alphas, strict=True)]


def verdict_of(pixel: int, alpha: float | None = None) -> Verdict:
    """What ``FakePredictor`` says of an image with this first pixel."""
    k, level = pixel % 30, alpha or 0.05
    p_value, threshold = (k + 1) / 64, 0.8 * level
    rejected, ambiguous = p_value <= threshold, k == 3
    return replace(
        VERDICT,
        class_index=k,
        class_label=LABELS[k],
        posterior=tuple(2.0 ** -(1 + (j - k) % 30) for j in range(30)),
        prediction_set=(LABELS[k], LABELS[(k + 1) % 30]),
        p_value=p_value,
        p_typicality=p_value / 2,
        alpha=level,
        threshold=threshold,
        rejected=rejected,
        decision=Decision.REJECT if rejected else [Decision.ACCEPT, Decision.ABSTAIN][ambiguous],
        reason="atypical_input" if rejected else "ambiguous" if ambiguous else None,
        score=float("inf") if pixel == ENDLESS else float(k),
        log_prob=-12.5 - k,
    )


def no_keys() -> Keys:
    return Keys(None, "OODGATE_KEYS_OF_NO_TEST")


def keys(*values: str) -> Keys:
    """As from the environment."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OODGATE_KEYS_OF_A_TEST", ",".join(values))
        return Keys(None, "OODGATE_KEYS_OF_A_TEST")


class Face(GrpcFace, InferenceFace):
    """What Serve would hold."""

    def __init__(self, engine: Engine, keys: Keys, values: Callable[[], Awaitable[Values]]) -> None:
        self.engine = engine
        self.keys = keys
        self._figures = values

    async def statistics(self) -> Values:
        return await self._figures()


@dataclass(frozen=True)
class Bench:
    """Two served models, their engine and what it has counted."""

    engine: Engine
    tally: Tally
    doors: Doors = field(default_factory=lambda: Doors(keys=no_keys()))

    def app(self) -> FastAPI:
        return create_app(self.engine, self.doors, _exposition, self.statistics)

    def face(self) -> Face:
        return Face(self.engine, self.doors.keys, self.statistics)

    async def statistics(self) -> Values:
        entries: dict[tuple[str, ...], int] = {}
        for (name, labels), value in self.tally.values.items():
            if name == metrics.STATISTICS.name:
                entries[labels] = int(value)
        return entries

    def counted(self, protocol: str, code: str) -> int:
        """Requests that ended so."""
        return int(self.tally.values.get((metrics.REQUESTS.name, (protocol, code)), 0))


def bench(
    limits: Limits = LIMITS,
    doors: Doors | None = None,
    predictor: FakePredictor | Predictor | None = None,
) -> Bench:
    recorder = Recorder(Tally())
    runtime = Runtime(
        executor=ThreadPoolExecutor(1),
        aside=ThreadPoolExecutor(1),
        device="cpu",
        compiled=False,
        max_batch_size=4,
        max_waiting=64,
        wait_s=0,
    )
    predictors = {GREY: predictor or FakePredictor(), COLOUR: FakePredictor(channels=3)}
    served = [
        ServedModel(
            cast(Predictor, predictor),
            ModelName(name=name, version=VERSION),
            runtime,
            lambda images, seconds: recorder.batch(images, seconds, 0.0),
        )
        for name, predictor in predictors.items()
    ]
    engine = Engine(models=Models(served), limits=limits, recorder=recorder)
    return Bench(engine, recorder.tally, doors or Doors(keys=no_keys()))


def png(value: int = 0, size: tuple[int, int] = (4, 4)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, value).save(out, "PNG")
    return out.getvalue()


async def _exposition(accept: str) -> tuple[bytes, str]:
    """Says which header Accept has reached it."""
    return f"# {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"
