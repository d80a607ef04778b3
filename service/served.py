"""One bundle in service on one replica: the model, its batches, and the test before it may answer.

``Models`` is what a replica serves by name. A request takes its model once and keeps it, so an
answer never mixes two versions: a swap replaces one entry, and what is on its way ends with the
version that it began with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.image import InputSpec, UInt8Array
from service.answer import ModelName
from service.batcher import Batched, Batcher, OnBatch
from service.bundle import Bundle, BundleError
from service.drawing import Drawn, drawn
from service.errors import DeadlineError, UnknownModelError
from service.explainer import Explained, explained
from service.predictor import Predictor
from service.verdict import Verdict
from service.watched import Watched

#: Is told the images of each batch, its seconds, and those of the gate among them.
Note = Callable[[int, float, float], None]


#: Requests whose drawings a model remembers.
KEPT_DRAWINGS = 16


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a replica runs its models; all of them share one thread of forward passes, and one
    ``aside`` for what is slower and may wait: explanations."""

    executor: Executor
    aside: Executor
    device: str
    compiled: bool
    max_batch_size: int
    max_waiting: int
    wait_s: float


class ServedModel:
    """A loaded bundle that answers: warm, self-tested, with a queue of its own."""

    def __init__(
        self,
        predictor: Predictor,
        name: ModelName,
        runtime: Runtime,
        on_batch: OnBatch,
        watched: Watched | None = None,
    ) -> None:
        """``watched``: the same predictor, where it is to remember what it has scored."""
        self.name = name
        self.watched = watched
        self.spec: InputSpec = predictor.spec
        self.labels = tuple(predictor.class_labels)
        self.threshold = predictor.threshold
        self.reference_size = predictor.reference_size
        self.places = predictor.places
        self._predictor = predictor
        self._aside = runtime.aside
        self._drawn: dict[tuple[int, int], Sequence[Drawn]] = {}
        self._batcher = Batcher(
            watched or predictor,
            executor=runtime.executor,
            max_batch_size=runtime.max_batch_size,
            max_waiting=runtime.max_waiting,
            wait_s=runtime.wait_s,
            on_batch=on_batch,
        )

    @property
    def predictor(self) -> Predictor:
        """Images to verdicts, without a queue."""
        return self._predictor

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._batcher.waiting

    def check_alpha(self, alpha: float | None) -> None:
        """Raise ``UnsupportedAlphaError`` for an alpha the reference is too small for."""
        self._predictor.check_alpha(alpha)

    async def classify(
        self, images: UInt8Array, alpha: float | None, deadline: float | None = None
    ) -> Batched:
        """Verdicts of uint8 images (n, C, H, W); raises what ``Batcher.submit`` does."""
        return await self._batcher.submit(images, alpha, deadline)

    async def explain(
        self, images: UInt8Array, alpha: float | None, contrast: float, deadline: float
    ) -> list[Explained]:
        """Verdicts of uint8 images (n, C, H, W) with their reasons, beside the batches.

        One after the other, so that nobody's wait for a turn grows with another's request. Raises
        ``DeadlineError``.
        """
        loop = asyncio.get_running_loop()
        queued_at = time.monotonic()

        def one(image: UInt8Array) -> list[Explained]:
            if (now := time.monotonic()) > deadline:
                raise DeadlineError(now - queued_at)
            return explained(self._predictor, image, alpha, contrast)

        return [
            found
            for i in range(len(images))
            for found in await loop.run_in_executor(self._aside, one, images[i : i + 1])
        ]

    async def draw(self, count: int, seed: int, deadline: float) -> Sequence[Drawn]:
        """Images that the model draws itself, its classes in turn, from ``seed`` x ``count`` on.

        Those of ``KEPT_DRAWINGS`` requests are remembered. Raises ``DeadlineError``.
        """
        known = self._drawn.get((count, seed))
        if known is not None:
            return known
        found = [await self._draw_one(seed * count + i, deadline) for i in range(count)]
        self._drawn[count, seed] = found
        while len(self._drawn) > KEPT_DRAWINGS:
            self._drawn.pop(next(iter(self._drawn)))
        return found

    async def _draw_one(self, number: int, deadline: float) -> Drawn:
        queued_at = time.monotonic()

        def one() -> Drawn:
            if (now := time.monotonic()) > deadline:
                raise DeadlineError(now - queued_at)
            return drawn(self._predictor, number % len(self.labels), number)

        return await asyncio.get_running_loop().run_in_executor(self._aside, one)


def load(path: Path, runtime: Runtime, note: Note, *, watch: bool = True) -> ServedModel:
    """Read, verify, warm and test a bundle; slow, so called in a thread.

    ``watch``: it is to remember scores, and to tell the seconds of the gate apart. Raises
    ``BundleError`` where the bundle cannot be trusted or does not pass.
    """
    bundle = Bundle.load(path)
    predictor = Predictor(bundle, runtime.device, compiled=runtime.compiled)
    self_test(predictor, runtime.max_batch_size)
    name = ModelName(name=bundle.name, version=bundle.version)
    watched = Watched(predictor) if watch else None

    def on_batch(images: int, seconds: float) -> None:
        note(images, seconds, 0.0 if watched is None else watched.take_gate_s())

    return ServedModel(predictor, name, runtime, on_batch, watched)


def self_test(predictor: Predictor, max_batch_size: int) -> None:
    """Answer images of noise alone and in a batch; every first-time cost is paid here too.

    Raises ``BundleError`` where a verdict is not finite, its posterior no distribution, or the
    batch says something else than the single image: by more than one rank, or another class.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (max_batch_size, *predictor.spec.shape), dtype=np.uint8)
    nothing = [None] * len(images)
    try:
        together = predictor(images, nothing)
        alone = predictor(images[:1], nothing[:1])[0]
    except Exception as error:
        raise BundleError(f"the model fails on an image of noise: {error!r}") from error
    for verdict in (*together, alone):
        _check_sound(verdict)
    _check_same(alone, together[0])


def _check_sound(verdict: Verdict) -> None:
    numbers = (verdict.p_value, verdict.threshold, verdict.score, verdict.log_prob)
    total = sum(verdict.posterior)
    sound = np.isfinite(numbers).all() and 0 < verdict.p_value <= 1
    if not (sound and abs(total - 1) <= 1e-3):  # NaN is no distribution either
        raise BundleError(
            f"the model gives p_value {verdict.p_value}, score {verdict.score}, log_prob "
            f"{verdict.log_prob} and a posterior of {total:.4f} in all for an image of noise: "
            "expected finite numbers and 1; train or calibrate it again"
        )


def _check_same(alone: Verdict, in_batch: Verdict) -> None:
    rank = 1 / (alone.reference_size + 1)
    near = abs(alone.p_value - in_batch.p_value) <= 1.01 * rank
    if not near or alone.class_index != in_batch.class_index:
        raise BundleError(
            f"the model gives class {alone.class_label} and p_value {alone.p_value} to an image "
            f"alone, {in_batch.class_label} and {in_batch.p_value} in a batch: its numerics cannot "
            "be trusted on this machine"
        )


@dataclass(frozen=True)
class Shadow:
    """A model that sees a share of another's images and answers nobody."""

    model: ServedModel
    share: float


class Models:
    """What a replica serves, by name; the first one answers requests that name none."""

    def __init__(self, served: Sequence[ServedModel]) -> None:
        self._served: dict[str, ServedModel] = {}
        for model in served:
            self.put(model)
        self.shadows: dict[str, Shadow] = {}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._served.values()))

    @property
    def default(self) -> ServedModel:
        """The one that is meant where none is named."""
        return next(iter(self._served.values()))

    def find(self, name: str = "", version: str = "") -> ServedModel:
        """Raises ``UnknownModelError`` naming what there is."""
        model = self._served.get(name) if name else self.default
        if model is None:
            raise UnknownModelError(
                f"no model {name[:100]!r} is served: expected one of {', '.join(self._served)}"
            )
        if version and version != model.name.version:
            raise UnknownModelError(
                f"model {model.name.name} has no version {version[:100]!r} here: expected "
                f"{model.name.version}, or none to mean it"
            )
        return model

    def put(self, model: ServedModel) -> None:
        """Take the place of the model of that name: one assignment, between two requests."""
        if model.watched is not None:
            model.watched.begin()
        self._served[model.name.name] = model

    def waiting(self) -> int:
        """Images in all queues."""
        return sum(model.waiting for model in self)
