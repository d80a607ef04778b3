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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.arrays import IntArray
from calibration.detection import Rate, share_of
from calibration.rows import is_in
from model.image import UInt8Array
from service.bundle import Bundle
from service.catalog import find_bundle
from tests.bench.lever import SEED, Lever, as_it_is, seen, smoothed
from tests.bench.lever_ensemble import ensembled
from tests.bench.record import Record, setting
from train.attacks.ball import Ball
from train.attacks.pgd import Steps, selective_pgd
from train.attacks.served import pixels, rounded
from train.data import open_data
from train.evaluation.attack_cells import STEPS
from train.images import Images, load_images
from train.progress import watch

DEFAULT_OUT = Path("runs/bench/levers.json")
ROWS = ("as it is", "adversarial", "smoothing", "ensemble")
EPS = (2, 8)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one lever on TEST, ``success`` of the attack by the size of its ball in 8-bit levels."""

    lever: str
    accuracy: Rate
    rejected: Rate
    success: dict[int, Rate]
    passes: float

    def __str__(self) -> str:
        attacks = ", ".join(
            f"{eps}/255: {rate.share:.1%} ({rate.low:.0%} to {rate.high:.0%})"
            for eps, rate in self.success.items()
        )
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
        lever.gate,
        pixels(images),
        torch.from_numpy(labels),
        ball,
        Steps(count=steps, size=STEPS[0] * ball.eps),
        SEED,
        limit=limit,
    )
    return rounded(moved)


def arguments() -> argparse.Namespace:
    """The command line."""
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
    return parser.parse_args()


def makers_of(given: argparse.Namespace, bundle: Bundle) -> dict[str, Callable[[], Lever]]:
    """Of each row, the making of its lever; of ``adversarial`` only where a bundle was given."""
    source = open_data(given.data)
    known = load_images(source, bundle.spec, bundle.class_labels, watch)
    fit = known.take(np.flatnonzero(is_in(known.digests, bundle.rows.fit)))
    cal = known.take(np.flatnonzero(is_in(known.digests, bundle.rows.cal))).pixels
    makers: dict[str, Callable[[], Lever]] = {
        "as it is": lambda: as_it_is("as it is", bundle),
        "smoothing": lambda: smoothed(bundle, cal),
        "ensemble": lambda: ensembled(bundle, given.members, fit, cal, source),
    }
    if given.robust:
        robust = Bundle.load(given.robust)
        robust.checkpoint.classifier.requires_grad_(False)
        makers["adversarial"] = lambda: as_it_is("adversarial", robust)
    return makers


def main() -> None:
    """Measure the rows that are asked for."""
    given = arguments()
    record = Record(given.out)
    bundle = Bundle.load(find_bundle(given.bundle))
    bundle.checkpoint.classifier.requires_grad_(False)
    test = load_images(open_data(given.test), bundle.spec, bundle.class_labels, watch)
    test = test.drawn(given.clean, SEED)
    makers = makers_of(given, bundle)
    facts = setting(quick=False, seed=SEED) | {"bundle": bundle.version, "steps": given.steps}
    for name in given.rows:
        if name in makers:
            found = attacked(makers[name](), test, given.images, given.steps)
            record.measure(name, facts, [found])


if __name__ == "__main__":
    main()
