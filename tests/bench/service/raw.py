"""What the service is held against: the Predictor alone, in this process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

from model.image import InputSpec, UInt8Array, decode
from service.bundle import Bundle
from service.predictor import Predictor
from tests.bench.service.loads import quantile
from tests.demo.strangers import png
from train.data import open_data

#: Images a request and a forward pass in the comparison of throughput.
BATCH = 32


class Raw:
    """The Predictor, ``encoded`` images and the same ones decoded in ``batches`` of ``BATCH``."""

    def __init__(self, bundle: Path, encoded: list[bytes]) -> None:
        loaded = Bundle.load(bundle)
        self.name, self.encoded = loaded.name, encoded
        self._predictor = Predictor(loaded)
        decoded = [decode(image, loaded.spec) for image in encoded]
        self.batches: list[UInt8Array] = [
            np.stack(decoded[i : i + BATCH]) for i in range(0, len(decoded) - BATCH + 1, BATCH)
        ]
        self._next_batch, self._next = itertools.cycle(self.batches), itertools.cycle(encoded)

    def images_per_s(self, seconds: float) -> float:
        """Decoded batches, one after the other."""
        began, done = perf_counter(), 0
        while (taken := perf_counter() - began) < seconds:
            done += len(self._predictor(next(self._next_batch)))
        return done / taken

    def p50_ms(self, seconds: float) -> float:
        """An encoded image to its verdict, one after the other."""
        took: list[float] = []
        end = perf_counter() + seconds
        while (began := perf_counter()) < end:
            self._one(next(self._next))
            took.append(perf_counter() - began)
        return 1000 * quantile(took, 0.5)

    def p_values_of_first(self) -> list[float]:
        """Of the first encoded image, alone."""
        return [self._one(self.encoded[0])]

    def p_values_of_batch(self) -> list[float]:
        """Of the first batch."""
        return [verdict.p_value for verdict in self._predictor(self.batches[0])]

    def _one(self, image: bytes) -> float:
        return self._predictor(decode(image, self._predictor.spec)[None])[0].p_value


def split_images(data: str, count: int) -> list[bytes]:
    """The first encoded images of a split."""
    found = [row.image for row in itertools.islice(open_data(data), count)]
    if len(found) < BATCH:
        raise SystemExit(f"{data} has {len(found)} images: expected at least {BATCH}")
    return found


def generated_images(bundle: Path, count: int, seed: int) -> list[bytes]:
    """Noise as PNG in the bundle's size, where there is no test split: the same work."""
    return list(itertools.islice(_noise(Bundle.load(bundle).spec, seed), count))


def _noise(spec: InputSpec, seed: int) -> Iterator[bytes]:
    random, (channels, height, width) = np.random.default_rng(seed), spec.shape
    shape = (height, width) if channels == 1 else (height, width, channels)
    while True:
        yield png(random.integers(0, 256, shape, dtype=np.uint8))
