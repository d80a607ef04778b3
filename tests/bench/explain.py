"""Are heatmaps right, and what do they cost: ``python -m tests.bench.explain --test DATA``.

DATA is a labelled split that neither classifier has seen. Ours are the posterior heatmaps that the
service gives, at contrast 1; beside them Grad-CAM of the discriminative baseline, which is trained
alike. Nothing is chosen on DATA, and nothing is asserted.

- composed: half an image of one class beside half of another, both recognised by both classifiers;
  share of pairs in which the evidence for each lies on its side (``train.evaluation.composed``);
  asked of ours: 80%
- removal: deletion and insertion (``train.evaluation.removal``) of the predicted class, each map
  judged by each classifier, since areas compare maps and not classifiers; beside them maps of noise
- cost: an image explained over the same image classified, alone, in interleaved pairs; asked: at
  most 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import FloatArray, IntArray
from calibration.detection import Rate, share_of
from calibration.rows import is_in
from calibration.temperature import softmax
from model.image import UInt8Array
from service.bundle import Bundle
from service.catalog import find_bundle
from service.explainer import explained
from service.predictor import Predictor
from tests.bench.pairs import Spread
from tests.bench.record import Record, setting
from train.baselines import load_baseline
from train.data import open_data
from train.evaluation.composed import CHANCE, compose, left_share, on_their_sides
from train.evaluation.removal import Probability, deletion, insertion
from train.grad_cam import grad_cam
from train.images import Images, load_images
from train.progress import Progress, watch

DEFAULT_OUT = Path("runs/bench/explain.json")
ROWS = ("cost", "composed", "removal")
OURS, GRAD_CAM, NOISE = "ours", "Grad-CAM", "noise"
SEED = 0
BATCH = 50
STEPS = 28
RESAMPLES = 2000
ROUNDS, REPEATS = 15, 20

#: uint8 images (B, C, H, W) and a class of each to maps (B, h, w).
Maps = Callable[[UInt8Array, IntArray], Tensor]


@dataclass(frozen=True)
class Figure:
    """What was measured: a line for the terminal, and the numbers in it."""

    line: str
    numbers: dict[str, Any]

    def __str__(self) -> str:
        return self.line

    def to_dict(self) -> dict[str, Any]:
        return {"line": self.line, **self.numbers}


class Sides:
    """Both classifiers, and maps of three kinds."""

    def __init__(self, bundle: Bundle, baseline: Path) -> None:
        self.predictor = Predictor(bundle, "cpu")
        self._network = load_baseline(baseline / "model").classifier
        self._noise = torch.Generator().manual_seed(SEED)
        self.judges: dict[str, Probability] = {OURS: self._ours, "the baseline": self._theirs}
        self.maps: dict[str, Maps] = {
            OURS: self._posterior_heatmaps,
            GRAD_CAM: self._grad_cam,
            NOISE: self._noise_maps,
        }

    @torch.inference_mode()
    def _ours(self, images: Tensor) -> FloatArray:
        bundle = self.predictor.bundle
        logits = bundle.checkpoint.classifier.classify(images).logits
        return bundle.calibration.posterior(logits.double().numpy())

    @torch.inference_mode()
    def _theirs(self, images: Tensor) -> FloatArray:
        return softmax(self._network.classify(images).double().numpy(), 1.0)

    def _posterior_heatmaps(self, images: UInt8Array, classes: IntArray) -> Tensor:
        return self.predictor.explain(images).heatmaps[range(len(images)), classes]

    def _grad_cam(self, images: UInt8Array, classes: IntArray) -> Tensor:
        return grad_cam(self._network, torch.from_numpy(images), torch.from_numpy(classes))

    def _noise_maps(self, images: UInt8Array, classes: IntArray) -> Tensor:
        """As coarse as the others."""
        return torch.randn(len(images), *self.predictor.places, generator=self._noise)


def batches(count: int, label: str) -> Iterator[slice]:
    """The next ``BATCH`` of ``count`` images at a time, showing how many went by."""
    with Progress(label, count) as progress:
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            yield slice(start, stop)
            progress.advance(stop - start)


def in_batches(maps: Maps, images: UInt8Array, classes: IntArray, label: str) -> Tensor:
    return torch.cat([maps(images[part], classes[part]) for part in batches(len(images), label)])


def predicted(judge: Probability, images: UInt8Array, label: str) -> IntArray:
    parts = [judge(torch.from_numpy(images[part])) for part in batches(len(images), label)]
    found: IntArray = np.concatenate(parts).argmax(1)
    return found


def composed(sides: Sides, test: Images, pairs: int) -> Iterator[Figure]:
    """Pairs of images that both classifiers have right."""
    known = np.ones(len(test), dtype=bool)
    for name, judge in sides.judges.items():
        known &= predicted(judge, test.pixels, f"recognised by {name}") == test.labels
    chosen = test.take(np.flatnonzero(known))
    made = compose(chosen.pixels, chosen.labels, pairs, SEED)
    width, right = made.pixels.shape[3], {}
    for name, maps in sides.maps.items():
        left, other = (
            in_batches(maps, made.pixels, k, f"composed, {name}") for k in (made.left, made.right)
        )
        right[name] = on_their_sides(left, other, width)
        each = [
            share_of(left_share(left, width) > 0.5),
            share_of(left_share(other, width) < 0.5),
        ]
        both = share_of(right[name])
        yield Figure(
            f"composed images, {name}: both sides right in {said(both)} of {pairs} pairs (chance "
            f"{CHANCE:.0%}); the left one in {said(each[0])}, the right one in {said(each[1])}",
            {"maps": name, "both": vars(both), "left": vars(each[0]), "right": vars(each[1])},
        )
    alone = int((right[OURS] & ~right[GRAD_CAM]).sum())
    other_alone = int((right[GRAD_CAM] & ~right[OURS]).sum())
    yield Figure(
        f"composed images: ours right and Grad-CAM not in {alone}, the other way in {other_alone}",
        {"ours_alone": alone, "grad_cam_alone": other_alone},
    )


def said(rate: Rate) -> str:
    return f"{rate.share or 0:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def removal(sides: Sides, test: Images) -> Iterator[Figure]:
    """Areas of the class that the judge predicts, by each map."""
    for name, judge in sides.judges.items():
        classes = predicted(judge, test.pixels, f"predicted by {name}")
        areas: dict[str, dict[str, list[Tensor]]] = {
            score: {maps: [] for maps in sides.maps} for score in ("deletion", "insertion")
        }
        for part in batches(len(test), f"removal, judged by {name}"):
            pixels, k = test.pixels[part], classes[part]
            images, explained_class = torch.from_numpy(pixels), torch.from_numpy(k)
            for kind, maps in sides.maps.items():
                asked = (maps(pixels, k), images, explained_class, judge, STEPS)
                areas["deletion"][kind].append(deletion(*asked))
                areas["insertion"][kind].append(insertion(*asked))
        for score, better in (("deletion", "lower"), ("insertion", "higher")):
            found = {kind: torch.cat(parts).numpy() for kind, parts in areas[score].items()}
            yield areas_told(score, better, name, found)


def areas_told(score: str, better: str, judge: str, found: dict[str, FloatArray]) -> Figure:
    means = {kind: mean_interval(values) for kind, values in found.items()}
    less = mean_interval(found[OURS] - found[GRAD_CAM])
    told = ", ".join(f"{kind} {spread(mean)}" for kind, mean in means.items())
    return Figure(
        f"{score}, judged by {judge} ({better} is better): {told}; ours less Grad-CAM "
        f"{spread(less)}",
        {"score": score, "judge": judge, "means": means, "ours_less_grad_cam": less},
    )


def mean_interval(values: FloatArray) -> tuple[float, float, float]:
    """The mean, and the 95% percentile interval of its bootstrap over images."""
    drawn = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def spread(mean: tuple[float, float, float]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*mean)


def cost(predictor: Predictor, images: UInt8Array) -> Iterator[Figure]:
    """One image after the other, each classified and then explained; a round has several."""
    singles = [images[i : i + 1] for i in range(min(REPEATS, len(images)))]
    ways: tuple[Callable[[UInt8Array], object], ...] = (
        predictor,
        lambda one: explained(predictor, one),
    )
    seconds = np.zeros((ROUNDS + 1, len(ways)))
    for taken in seconds:
        for one in singles:
            for i, way in enumerate(ways):
                began = time.perf_counter()
                way(one)
                taken[i] += (time.perf_counter() - began) / len(singles)
    rounds = seconds[1:]  # the first warms up
    ratio, classified = Spread.of((rounds[:, 1] / rounds[:, 0]).tolist()), 1000 * rounds[:, 0]
    yield Figure(
        f"cost of an image explained over classified, alone: {ratio} over {ROUNDS} pairs; "
        f"classified {Spread.of(classified.tolist())} ms",
        {"ratio": vars(ratio), "seconds": rounds.tolist()},
    )


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    record = Record(args.out)
    bundle = Bundle.load(find_bundle(args.bundle))
    test = load_images(open_data(args.test), bundle.spec, bundle.class_labels, watch)
    known = is_in(test.digests, bundle.rows.known)
    test = test.take(np.flatnonzero(~known))
    print(f"{bundle.name} {bundle.version}: {len(test):,} test rows, {known.sum()} known left out")
    made = setting(quick=args.images < 500 or args.pairs < 200, seed=SEED) | {
        "bundle": bundle.version,
        "images": args.images,
        "pairs": args.pairs,
        "steps": STEPS,
    }
    drawn, candidates = test.drawn(args.images, SEED), test.drawn(10 * args.pairs, SEED)
    results = {
        "cost": cost(Predictor(bundle, "cpu"), drawn.pixels),
        # each with noise of its own: rows may be measured alone
        "composed": composed(Sides(bundle, args.baseline), candidates, args.pairs),
        "removal": removal(Sides(bundle, args.baseline), drawn),
    }
    for name in args.rows:
        record.measure(name, made, results[name])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="fashion-mnist")
    parser.add_argument(
        "--baseline", type=Path, default=Path("bundles/baselines/fashion-mnist-resnet")
    )
    parser.add_argument("--test", required=True, help="DATA like the bundle's, with labels")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
