"""Models without a network, and requests for them: what the parts below the faces are tested on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
from PIL import Image

from calibration.errors import UnsupportedAlphaError
from model.image import InputSpec, UInt8Array
from service.answer import ModelName
from service.errors import OK
from service.predictor import Predictor
from service.served import Runtime, ServedModel
from service.trace import Trace
from service.verdict import Decision, Unusual, Verdict

LABELS = tuple(f"class {k}" for k in range(10))
SHAPE = (1, 4, 4)

VERDICT = Verdict(
    class_index=0,
    class_label=LABELS[0],
    posterior=(0.91, *[0.01] * 9),
    prediction_set=LABELS[:1],
    p_value=0.5,
    p_typicality=0.5,
    p_train=float("nan"),
    alpha=0.05,
    delta=0.05,
    mode="marginal",
    threshold=0.04,
    reference_size=99,
    decision=Decision.ACCEPT,
    rejected=False,
    reason=None,
    score=1.0,
    log_prob=-12.5,
    bits_per_dim=4.0,
    unusual=(Unusual(statistic="ladj", p_value=0.01),),
)
REJECTED = replace(
    VERDICT, decision=Decision.REJECT, rejected=True, reason="atypical_input", p_value=0.01
)


def verdict_on(number: int, alpha: float | None = None) -> Verdict:
    """The verdict that ``FakePredictor`` gives to ``image(number)``."""
    return replace(
        VERDICT,
        class_index=number % 10,
        class_label=LABELS[number % 10],
        score=float(number),
        alpha=0.05 if alpha is None else alpha,
    )


def image(number: int) -> UInt8Array:
    """Pixels (C, H, W) that tell which of 65,536 images they are."""
    pixels = np.zeros(SHAPE, dtype=np.uint8)
    pixels[0, 0, :2] = divmod(number, 256)
    return pixels


def images(*numbers: int) -> UInt8Array:
    """(n, C, H, W)."""
    return np.stack([image(number) for number in numbers])


def png(number: int = 0, size: tuple[int, int] = (4, 4)) -> bytes:
    """An encoded ``image(number)``, on black where it is larger."""
    pixels = np.zeros(size[::-1], dtype=np.uint8)
    pixels[0, :2] = divmod(number, 256)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def number_of(pixels: UInt8Array) -> int:
    return int(pixels[0, 0, 0]) * 256 + int(pixels[0, 0, 1])


class FakePredictor:
    """Its score is the image's number; those in ``bad`` make it fail. ``tag``: in each verdict."""

    class_labels = LABELS
    threshold = VERDICT.threshold
    reference_size = VERDICT.reference_size
    places = (1, 1)

    def __init__(self, bad: Sequence[int] = (), tag: str = "marginal") -> None:
        self.spec = InputSpec(shape=(1, 4, 4))
        self.batches: list[list[int]] = []
        self._bad = frozenset(bad)
        self._tag = tag

    def check_alpha(self, alpha: float | None) -> None:
        if alpha is not None and alpha < 0.01:
            raise UnsupportedAlphaError("the smallest supported alpha is 0.01")

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        numbers = [number_of(pixels) for pixels in images]
        self.batches.append(numbers)
        if not self._bad.isdisjoint(numbers):
            raise ArithmeticError(f"cannot judge one of {numbers}")
        return [
            replace(verdict_on(number, alpha), mode=self._tag)
            for number, alpha in zip(numbers, alphas, strict=True)
        ]


def runtime(executor: Executor | None = None, **changes: Any) -> Runtime:
    return replace(
        Runtime(
            executor=executor or ThreadPoolExecutor(1),
            aside=ThreadPoolExecutor(1),
            device="cpu",
            compiled=False,
            max_batch_size=4,
            max_waiting=64,
            wait_s=0,
        ),
        **changes,
    )


def nothing_to_note(images: int, seconds: float) -> None:
    """Of a batch."""


def model(
    name: str = "digits",
    version: str = "1",
    predictor: Any = None,
    running: Runtime | None = None,
) -> ServedModel:
    """Served under that name; its verdicts carry the version in ``mode``."""
    return ServedModel(
        cast(Predictor, FakePredictor(tag=version) if predictor is None else predictor),
        ModelName(name=name, version=version),
        running or runtime(),
        nothing_to_note,
    )


def trace(verdicts: Sequence[Verdict] = (VERDICT,), **changes: Any) -> Trace:
    """Of a request that was answered."""
    found = Trace(
        protocol="http",
        id="me",
        code=OK,
        model=ModelName(name="digits", version="0123456789ab"),
        verdicts=verdicts,
        stages={"decode": 0.001, "queue": 0.002, "forward": 0.003},
    )
    return replace(found, **changes)
