"""What raises the cost of an attack that knows the gate: ``python -m tests.bench.levers``.

Three levers, each at the bundle's own alpha and held against the bundle as it is:

- ``adversarial``: a bundle whose network was trained with ``--adversarial-eps`` (``--robust``)
- ``smoothing``: S averaged over seeded draws of noise; classes as they were, the reference anew
- ``ensemble``: the bundle and networks of other beta (``--members``) with one S over the statistics
  of all, and the mean of the posteriors of those that classify

Attacked by selective PGD through everything that the lever adds: another class, let in. Each lever
is attacked on the first images that it classifies rightly and lets in itself. Cost: passes of an
image through a network, beside one. Nothing is chosen on TEST, and nothing is asserted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.combined_score import CombinedScore
from calibration.conformal import pac_rank
from calibration.detection import Rate, share_of
from calibration.outlier_exposure import Outliers
from calibration.rows import is_in
from model.classifier import GenerativeClassifier
from model.image import UInt8Array
from service.bundle import Bundle
from service.catalog import find_bundle
from service.cli.source import open_source
from tests.bench.record import Record, setting
from train.attacks.ball import Ball
from train.attacks.gate import SmoothGate
from train.attacks.pgd import Steps, selective_pgd
from train.attacks.served import rounded
from train.data import ImageRows, open_data
from train.evaluation.attack_cells import STEPS
from train.images import Images, load_images
from train.outliers import COPIES, SEED, outlier_images, storage_of
from train.progress import Progress, watch

DEFAULT_OUT = Path("runs/bench/levers.json")
ROWS = ("as it is", "adversarial", "smoothing", "ensemble")
EPS = (2, 8)
BATCH = 100
#: Of smoothing: draws, and their standard deviation in 8-bit levels.
DRAWS, SIGMA = 4, 8.0


class Seen(NamedTuple):
    """``logits`` (B, K) and ``score`` S (B,), float64; as attacks take it."""

    logits: Tensor
    score: Tensor


#: Pixels (B, C, H, W) in [0, 1], of which k / 255 is the 8-bit level k, to what a gate sees.
Gate = Callable[[Tensor], Seen]


@dataclass(frozen=True, kw_only=True)
class Lever:
    """``passes`` of an image through a network, in units of the bundle's one."""

    name: str
    gate: Gate
    limit: float
    classes: int
    passes: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one lever on TEST, ``success`` of the attack by the size of its ball in 8-bit levels."""

    lever: str
    accuracy: Rate
    rejected: Rate
    success: dict[int, Rate]
    passes: float

    def __str__(self) -> str:
        attacks = ", ".join(f"{eps}/255: {rate.share:.1%}" for eps, rate in self.success.items())
        return (
            f"{self.lever}: accuracy {self.accuracy.share:.1%}, clean images rejected "
            f"{self.rejected.share:.1%}, {self.passes:.1f} passes; success of attacks {attacks} "
            f"of {next(iter(self.success.values())).total}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        rates = {str(eps): vars(rate) for eps, rate in self.success.items()}
        return {
            "lever": self.lever,
            "accuracy": vars(self.accuracy),
            "rejected": vars(self.rejected),
            "success": rates,
            "passes": self.passes,
        }


def as_it_is(name: str, bundle: Bundle) -> Lever:
    """A bundle's gate; its limit is that of its own reference."""
    smooth = SmoothGate(bundle.checkpoint.classifier, bundle.calibration)

    def gate(x: Tensor) -> Seen:
        judged = smooth(x)
        return Seen(judged.logits, judged.score)

    reference = bundle.calibration.scores(*bundle.calibration.held_out())
    return _lever(name, gate, reference, bundle, passes=1)


def smoothed(bundle: Bundle, cal: UInt8Array) -> Lever:
    """S averaged over ``DRAWS`` patterns of noise, the same for every image."""
    plain = as_it_is("smoothing", bundle).gate
    generator = torch.Generator().manual_seed(SEED)
    noise = SIGMA / 255 * torch.randn(DRAWS, *cal.shape[1:], generator=generator)

    def gate(x: Tensor) -> Seen:
        scores = [plain((x + one).clamp(0, 1)).score for one in noise]
        return Seen(plain(x).logits, torch.stack(scores).mean(0))

    reference = scores_of(gate, cal, "smoothing")
    return _lever("smoothing", gate, reference, bundle, passes=1 + DRAWS)


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
    return _lever("ensemble", gate, scores_of(gate, cal, "ensemble"), bundle, passes=passes)


def _lever(name: str, gate: Gate, reference: FloatArray, bundle: Bundle, passes: float) -> Lever:
    """With the limit that S of the ``reference`` rows gives."""
    calibration = bundle.calibration
    limit = limit_of(reference, calibration)
    return Lever(name=name, gate=gate, limit=limit, classes=calibration.classes, passes=passes)


def member(folder: Path) -> tuple[GenerativeClassifier, float]:
    """A finished run's network and its beta."""
    source = open_source(str(folder), None)
    return source.checkpoint.classifier, float(source.training["config"]["beta"])


def size_of(classifier: GenerativeClassifier) -> float:
    """Parameters, of which passes cost about in proportion between networks of one shape."""
    return float(sum(parameter.numel() for parameter in classifier.parameters()))


def limit_of(reference: FloatArray, calibration: Calibration) -> float:
    """S above which an image is rejected, by the bundle's alpha and delta, whatever its class."""
    rank = pac_rank(len(reference), calibration.alpha, calibration.delta)
    return float(np.sort(reference)[len(reference) - rank])


def scores_of(gate: Gate, images: UInt8Array, label: str) -> FloatArray:
    """S (N,) of 8-bit images."""
    return np.concatenate([found.score.numpy() for found in seen(gate, images, label)])


def seen(gate: Gate, images: UInt8Array, label: str) -> list[Seen]:
    """Batch by batch."""
    parts = []
    with torch.no_grad(), Progress(label, len(images)) as progress:
        for start in range(0, len(images), BATCH):
            parts.append(gate(pixels(images[start : start + BATCH])))
            progress.advance(len(parts[-1].score))
    return parts


def attacked(lever: Lever, images: Images, count: int, steps: int) -> Found:
    """The lever on clean images, and under attack on the first ``count`` that it is right about."""
    parts = seen(lever.gate, images.pixels, lever.name)
    predicted = torch.cat([part.logits.argmax(1) for part in parts]).numpy()
    rejected = torch.cat([part.score for part in parts]).numpy() > lever.limit
    right = predicted == images.labels
    chosen = np.flatnonzero(right & ~rejected)[:count]
    success = {}
    for eps in EPS:
        moved = attack(lever, images.pixels[chosen], images.labels[chosen], eps, steps)
        with torch.no_grad():
            found = lever.gate(pixels(moved))
        wrong = found.logits.argmax(1).numpy() != images.labels[chosen]
        success[eps] = share_of(wrong & (found.score.numpy() <= lever.limit))
        print(f"{lever.name}, {eps}/255: {success[eps].share:.1%}", flush=True)
    return Found(
        lever=lever.name,
        accuracy=share_of(right),
        rejected=share_of(rejected),
        success=success,
        passes=lever.passes,
    )


def attack(lever: Lever, images: UInt8Array, labels: IntArray, eps: int, steps: int) -> UInt8Array:
    """Selective PGD, as 8-bit images."""
    ball = Ball("linf", eps / 255)
    limit = torch.full((lever.classes,), lever.limit, dtype=torch.float64)
    moved = selective_pgd(
        lever.gate,  # type: ignore[arg-type]
        pixels(images),
        torch.from_numpy(labels),
        ball,
        Steps(count=steps, size=STEPS[0] * ball.eps),
        SEED,
        limit=limit,
    )
    return rounded(moved)


def pixels(images: UInt8Array) -> Tensor:
    """In [0, 1]."""
    return torch.from_numpy(images).float() / 255


def _of(name: str, index: int) -> str:
    """A statistic of another member; those of the pixels are all the same."""
    return name if name.startswith("input_") else f"{name}.{index}"


def main() -> None:
    """Measure the rows that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", default="fashion-mnist")
    parser.add_argument("--data", required=True, help="the rows that the bundle was calibrated on")
    parser.add_argument("--test", required=True, help="a labelled split that nothing has seen")
    parser.add_argument("--robust", type=Path, help="a bundle trained with --adversarial-eps")
    parser.add_argument("--members", type=Path, nargs="*", default=[], help="runs of other beta")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=ROWS)
    parser.add_argument("--images", type=int, default=60, help="attacked")
    parser.add_argument("--clean", type=int, default=1000, help="of TEST, for accuracy and rates")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    given = parser.parse_args()
    record = Record(given.out)
    bundle = Bundle.load(find_bundle(given.bundle))
    bundle.checkpoint.classifier.requires_grad_(False)
    source = open_data(given.data)
    known = load_images(source, bundle.spec, bundle.class_labels, watch)
    fit = known.take(np.flatnonzero(is_in(known.digests, bundle.rows.fit)))
    cal = known.take(np.flatnonzero(is_in(known.digests, bundle.rows.cal))).pixels
    test = load_images(open_data(given.test), bundle.spec, bundle.class_labels, watch)
    test = test.drawn(given.clean, SEED)
    makers: dict[str, Callable[[], Lever]] = {
        "as it is": lambda: as_it_is("as it is", bundle),
        "smoothing": lambda: smoothed(bundle, cal),
        "ensemble": lambda: ensembled(bundle, given.members, fit, cal, source),
    }
    if given.robust:
        robust = Bundle.load(given.robust)
        robust.checkpoint.classifier.requires_grad_(False)
        makers["adversarial"] = lambda: as_it_is("adversarial", robust)
    facts = setting(quick=False, seed=SEED) | {"bundle": bundle.version, "steps": given.steps}
    for name in given.rows:
        if name in makers:
            found = attacked(makers[name](), test, given.images, given.steps)
            record.measure(name, facts, [found])


if __name__ == "__main__":
    main()
