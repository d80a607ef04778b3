"""The lever ``ensemble``: networks of several beta with one S over the statistics of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import FloatArray, IntArray
from calibration.combined_score import CombinedScore
from calibration.outlier_exposure import Outliers
from model.classifier import GenerativeClassifier
from model.image import UInt8Array
from service.bundle import Bundle
from service.cli.source import open_source
from tests.bench.lever import BATCH, Lever, Seen, lever_of, scores_of
from train.attacks.gate import SmoothGate
from train.attacks.served import pixels
from train.data import ImageRows
from train.images import Images
from train.outliers import COPIES, outlier_images, storage_of
from train.progress import Progress


class Ensemble:
    """Networks with one S over the statistics of all; those in ``classify`` give the class."""

    def __init__(
        self,
        members: Sequence[SmoothGate],
        classify: Sequence[int],
        combined: CombinedScore | None = None,
    ) -> None:
        self._members, self._classify, self._combined = members, classify, combined

    def columns(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Statistics by name, those of the pixels once, and logits (B, K) of the ensemble."""
        named: dict[str, Tensor] = {}
        posteriors = []
        for index, member in enumerate(self._members):
            found, output = member.statistics(x)
            named |= {name if index == 0 else _of(name, index): v for name, v in found.items()}
            if index in self._classify:
                posteriors.append(output.logits.double().softmax(1))
        return named, torch.stack(posteriors).mean(0).clamp_min(1e-300).log()

    def __call__(self, x: Tensor) -> Seen:
        if self._combined is None:
            raise ValueError("the ensemble has no S yet: expected one that is fitted")
        named, logits = self.columns(x)
        score = self._members[0].score(self._combined, named, logits.argmax(1))
        return Seen(logits, score)

    def fitted(self, fit: UInt8Array, copies: UInt8Array, of: IntArray) -> Ensemble:
        """With S of fit rows and distorted ``copies`` of the rows ``of``."""
        values, predicted = self._values(fit, "ensemble: fit rows")
        strange, _ = self._values(copies, "ensemble: distorted copies")
        outliers = Outliers(values=strange, of=of)
        combined = CombinedScore.fit(values, predicted, self._classes, outliers)
        return Ensemble(self._members, self._classify, combined)

    @property
    def _classes(self) -> int:
        return self._members[0].classifier.config.n_classes

    def _values(self, images: UInt8Array, label: str) -> tuple[dict[str, FloatArray], IntArray]:
        parts: list[tuple[dict[str, Tensor], Tensor]] = []
        with torch.no_grad(), Progress(label, len(images)) as progress:
            for start in range(0, len(images), BATCH):
                parts.append(self.columns(pixels(images[start : start + BATCH])))
                progress.advance(len(parts[-1][1]))
        names = parts[0][0]
        values = {name: torch.cat([part[name] for part, _ in parts]).numpy() for name in names}
        return values, torch.cat([logits.argmax(1) for _, logits in parts]).numpy()


def ensembled(
    bundle: Bundle, folders: Sequence[Path], fit: Images, cal: UInt8Array, source: ImageRows
) -> Lever:
    """The bundle and runs of other beta, of which those with a class loss classify too."""
    gates = [SmoothGate(bundle.checkpoint.classifier, bundle.calibration)]
    classify, passes = [0], 1.0
    own = size_of(bundle.checkpoint.classifier)
    for index, folder in enumerate(folders, start=1):
        classifier, beta = member(folder)
        gates.append(SmoothGate(classifier, bundle.calibration))
        classify += [index] if beta else []
        passes += size_of(classifier) / own
    storage, spec = storage_of(source, bundle.spec), bundle.spec
    made = [outlier_images(fit.pixels, storage, spec, copy) for copy in range(COPIES)]
    of = np.tile(np.arange(len(fit)), COPIES)
    gate = Ensemble(gates, classify).fitted(fit.pixels, np.concatenate(made), of)
    return lever_of("ensemble", gate, scores_of(gate, cal, "ensemble"), bundle, passes=passes)


def member(folder: Path) -> tuple[GenerativeClassifier, float]:
    """A finished run's network and its beta."""
    source = open_source(str(folder), None)
    return source.checkpoint.classifier, float(source.training["config"]["beta"])


def size_of(classifier: GenerativeClassifier) -> float:
    """Parameters, of which passes cost about in proportion between networks of one shape."""
    return float(sum(parameter.numel() for parameter in classifier.parameters()))


def _of(name: str, index: int) -> str:
    """A statistic of another member; those of the pixels are all the same."""
    return name if name.startswith("input_") else f"{name}.{index}"
