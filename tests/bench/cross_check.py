"""Our attacks against foolbox's on a ResNet: ``python -m tests.bench.cross_check``.

PGD with the same number of steps in balls of several sizes: the share that is misclassified, which
is to agree within 2 points. Carlini and Wagner's with the same targets: hits, and the mean l2 of
images that both hit. All on 8-bit images that the ResNet classifies rightly. Nothing is asserted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calibration.arrays import BoolArray, FloatArray
from tests.bench.record import Record, setting
from train.attacks.attacked import AttackedBaseline
from train.attacks.ball import Ball, Norm
from train.attacks.carlini_wagner import Settings, carlini_wagner, looks_anyhow
from train.attacks.pgd import Steps, pgd
from train.attacks.served import distances, pixels, rounded
from train.baselines import load_baseline
from train.data import open_data
from train.evaluation.attack_cells import RATE, STEPS, others
from train.images import load_images
from train.progress import watch

try:
    import foolbox
except ImportError as error:  # pragma: no cover - only where the extra is not installed
    raise SystemExit("foolbox is not installed: pip install -e '.[bench]'") from error

DEFAULT_OUT = Path("runs/bench/cross_check.json")
SEED, COUNT = 0, 40
BALLS: tuple[tuple[Norm, float], ...] = (
    *(("linf", level / 255) for level in (1, 2, 4, 8)),
    *(("l2", size) for size in (0.25, 0.5, 1.0)),
)
#: Of Carlini and Wagner's: values of c and steps of each, ours and theirs; the margin asked for.
OURS, THEIRS, KAPPA = (5, 40), (9, 200), 1.0


@dataclass(frozen=True, kw_only=True)
class Compared:
    """``ours`` and ``theirs``: shares of ``images`` that are misclassified, for a targeted attack
    as the target; ``ours_l2`` and ``theirs_l2``: mean over images that both hit."""

    attack: str
    images: int
    ours: float
    theirs: float
    ours_l2: float
    theirs_l2: float

    def __str__(self) -> str:
        return (
            f"{self.attack}: ours {self.ours:.1%}, foolbox {self.theirs:.1%} of {self.images}; "
            f"mean l2 {self.ours_l2:.3f} and {self.theirs_l2:.3f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Logits(nn.Module):
    """What foolbox takes: pixels in [0, 1] to logits."""

    def __init__(self, attacked: AttackedBaseline) -> None:
        super().__init__()
        self._attacked = attacked

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self._attacked.look(x)[0]


@dataclass(frozen=True, eq=False)
class Scene:
    """A baseline and images (B, C, H, W) in [0, 1] with their classes (B,)."""

    attacked: AttackedBaseline
    x: Tensor
    y: Tensor

    def first(self, count: int) -> Scene:
        """Fewer of them."""
        return Scene(self.attacked, self.x[:count], self.y[:count])

    def predicted(self, moved: Tensor) -> Tensor:
        """Classes of images as they are sent, (B,)."""
        with torch.no_grad():
            return self.attacked.look(pixels(rounded(moved)))[0].argmax(1)

    def compared(
        self, attack: str, ours: Tensor, theirs: Tensor, hits: tuple[Tensor, Tensor]
    ) -> Compared:
        """Two ways of moving the same images."""
        clean = rounded(self.x)
        l2: list[FloatArray] = [distances(rounded(one), clean)[0] for one in (ours, theirs)]
        shares = [float(hit.double().mean()) for hit in hits]
        both: BoolArray = (hits[0] & hits[1]).numpy()
        means = [float(one[both].mean()) if both.any() else 0.0 for one in l2]
        return Compared(
            attack=attack,
            images=len(self.x),
            ours=shares[0],
            theirs=shares[1],
            ours_l2=means[0],
            theirs_l2=means[1],
        )


def in_balls(scene: Scene) -> Iterator[Compared]:
    """PGD of both in every ball."""
    model = foolbox.PyTorchModel(Logits(scene.attacked).eval(), bounds=(0, 1), device="cpu")
    kinds = {
        "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
        "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
    }
    for norm, eps in BALLS:
        steps = Steps(count=COUNT, size=STEPS[0] * eps)
        ours = pgd(scene.attacked, scene.x, scene.y, Ball(norm, eps), steps, SEED)
        torch.manual_seed(SEED)
        theirs = kinds[norm](rel_stepsize=0.1, steps=COUNT)(model, scene.x, scene.y, epsilons=eps)
        moved = (ours, theirs[1])
        name = f"PGD linf {255 * eps:g}" if norm == "linf" else f"PGD l2 {eps:g}"
        first, second = (scene.predicted(one) != scene.y for one in moved)
        yield scene.compared(name, *moved, (first, second))


def targeted(scene: Scene) -> Compared:
    """Carlini and Wagner's of both, kappa ``KAPPA``."""
    classes = scene.attacked.classifier.config.n_classes
    aims = torch.from_numpy(others(scene.y.numpy(), classes, SEED))
    settings = Settings(kappa=KAPPA, detection=0.0, searches=OURS[0], steps=OURS[1], rate=RATE)
    ours = carlini_wagner(looks_anyhow(scene.attacked), scene.x, aims, settings).images
    model = foolbox.PyTorchModel(Logits(scene.attacked).eval(), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=THEIRS[0], steps=THEIRS[1], confidence=KAPPA
    )
    wanted = foolbox.criteria.TargetedMisclassification(aims)
    theirs = attack(model, scene.x, wanted, epsilons=None)[1]
    first, second = (scene.predicted(one) == aims for one in (ours, theirs))
    return scene.compared(f"CW kappa {KAPPA:g}", ours, theirs, (first, second))


def main() -> None:
    """Compare on rows of TEST."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--baseline", type=Path, required=True, help="the folder of a ResNet's run")
    parser.add_argument("--test", required=True, help="a labelled split that nothing has seen")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--targeted", type=int, default=40, help="of them, for Carlini and Wagner")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    given = parser.parse_args()
    record = Record(given.out)
    loaded = load_baseline(given.baseline / "model")
    attacked = AttackedBaseline(loaded.classifier.requires_grad_(False))
    images = load_images(open_data(given.test), loaded.spec, loaded.class_labels, watch)
    images = images.take(np.arange(min(given.images, len(images))))
    scene = Scene(attacked, pixels(images.pixels), torch.from_numpy(images.labels))
    right = scene.predicted(scene.x) == scene.y
    scene = Scene(attacked, scene.x[right], scene.y[right])
    facts = setting(quick=False, seed=SEED) | {"baseline": given.baseline.name, "steps": COUNT}
    record.measure("PGD", facts, in_balls(scene))
    record.measure(
        "CW", facts | {"ours": OURS, "theirs": THEIRS}, [targeted(scene.first(given.targeted))]
    )


if __name__ == "__main__":
    main()
