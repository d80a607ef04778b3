"""The suite ``attacks``: the model and its baselines under the attacks of a budget.

Cells are kept one by one, so a run that was stopped goes on where it was. Images are drawn from the
known ones that the model classifies rightly and lets in; a baseline is attacked on those of them
that it classifies rightly, by what needs no gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from calibration.arrays import IntArray
from train import attacks as the_attacks
from train import batch_sizes
from train.attacks.attacked import AttackedBaseline
from train.attacks.gate import SmoothGate
from train.attacks.losses import gradient
from train.attacks.served import ServedGate
from train.data import DataError
from train.evaluation import attack_baselines, attack_cells, trajectories
from train.evaluation.attack_baselines import attack_baseline, rightly_classified
from train.evaluation.attack_cell import MODEL, AttackCell
from train.evaluation.attack_cells import (
    Target,
    Victims,
    attack_model,
    others,
    parts_of,
)
from train.evaluation.attack_plan import PLAIN, TARGETED, Attack, Budget
from train.evaluation.attack_run import AttackRun, read_attack_run, write_attack_run
from train.evaluation.attack_story import part_of
from train.evaluation.cells import Cells, broken, file_name, sum_of_sources
from train.evaluation.judging import GATE
from train.evaluation.measure import Baseline, Held, unseen_strangers
from train.evaluation.part import Part
from train.evaluation.sets import StrangeRows, with_bases_checked
from train.evaluation.trajectories import IMAGES, POINTS, follow, follow_baseline, some
from train.evaluation.trajectory_cell import TrajectoryCell
from train.evaluation.trajectory_story import Followed
from train.images import UNLABELLED
from train.progress import Progress, say

#: Draws the images, the starts and the aims of all attacks.
SEED = 0

#: The strangers that every report has.
NOISE = "noise"

#: Who is attacked, how, and the doing of it.
Work = tuple[str, Attack, Callable[[], AttackCell]]
#: The same of an attack that is followed.
WayWork = tuple[str, Attack, Callable[[], tuple[TrajectoryCell, AttackRun]]]


@dataclass(frozen=True, kw_only=True)
class AttackSuite:
    """``budget``: which attacks, on how many images. ``strangers``: sets that are to be let in,
    beside noise."""

    budget: Budget
    strangers: tuple[StrangeRows, ...] = ()
    seed: int = SEED
    name: ClassVar[str] = "attacks"

    def record(self, held: Held) -> dict[str, Any]:
        """What its cells follow from; raises ``DataError`` where there is nothing to attack."""
        with_bases_checked(self.strangers, held.model.checkpoint.spec, held.model.record.known)
        victims = chosen(held, self.budget.images, self.seed)
        if not len(victims.images) or held.model.checkpoint.classifier.config.n_classes < 2:
            raise DataError(
                f"--suite {self.name}: found {len(victims.images)} labelled images of "
                f"{held.source.spec} that the model classifies rightly and lets in, expected some, "
                "of two classes at least: give labelled rows of its own kind"
            )
        return {
            "budget": self.budget.name,
            "images": len(victims.images),
            "attacks": [f"{a.name}, {a.steps} x {a.restarts}" for a in self._spread.attacks],
            "followed": f"{IMAGES} images at {POINTS} points",
            "seed": self.seed,
            "code of the attacks": _code_sum(),
        }

    def measure(self, held: Held, cells: Cells) -> Part:
        """Every cell that is not yet there, and what all come to."""
        held.model.checkpoint.classifier.requires_grad_(False)
        measured = tuple(self._all(held, cells))
        followed = tuple(self._followed(held, cells))
        return part_of(measured, self._spread, held, self.seed, followed)

    @property
    def _spread(self) -> Budget:
        return self.budget.for_strangers((NOISE, *(one.name for one in self.strangers)))

    def _all(self, held: Held, cells: Cells) -> Iterator[AttackCell]:
        plan = list(self._plan(held))
        passes = sum(attack.passes for _, attack, _ in plan)
        self._announce(held, len(plan), passes)
        with Progress(self.name, passes * self.budget.images, unit="passes") as progress:
            for source, attack, work in plan:
                file = file_name(source, attack.name)
                cell = cells.parsed(file, AttackCell.from_json)
                _refuse_another(cells, file, cell, source, attack)
                if cell is None:
                    cell = work()
                    cells.write(file, cell.to_json())
                progress.advance(attack.passes * self.budget.images, last=f"{source} {attack.name}")
                yield cell

    def _announce(self, held: Held, count: int, passes: int) -> None:
        victims = chosen(held, self.budget.images, self.seed)
        minutes = passes * _pass_seconds(_target(held), victims) / 60
        say(
            f"attacks: {count} on up to {self.budget.images} images, "
            f"{passes * self.budget.images:,} passes of an image in all, about {minutes:.0f} "
            "minutes if none of them is there already"
        )

    def _followed(self, held: Held, cells: Cells) -> Iterator[Followed]:
        parse = partial(TrajectoryCell.from_json, n_classes=held.model.calibration.classes)
        for source, attack, work in self._ways(held):
            file = file_name("way", source, attack.name)
            run = cells.folder / f"{file}.npz"
            cell = cells.parsed(file, parse)
            _refuse_another(cells, file, cell, source, attack)
            if cell is None or not run.is_file():
                say(f"attacks: following {attack.name} on few images, {source}")
                cell, images = work()
                _write_run(run, images)
                cells.write(file, cell.to_json())
            _refuse_damaged(run, cell)
            yield Followed(cell=cell, run=run.read_bytes())

    def _ways(self, held: Held) -> Iterator[WayWork]:
        """The model's, and of baselines that of the attack that needs no gate."""
        target, victims = _target(held), chosen(held, self.budget.images, self.seed)
        for attack in self.budget.followed:
            yield MODEL, attack, partial(follow, target, some(victims), attack, self.seed)
            for baseline in held.baselines if attack.kind == PLAIN else ():
                attacked = _attacked(baseline)
                right = victims.take(rightly_classified(attacked, victims))
                if not len(right.images):
                    say(f"attacks: {baseline.name} classifies none rightly, and is not followed")
                else:
                    way = (baseline.name, attacked, some(right), attack, self.seed)
                    yield baseline.name, attack, partial(follow_baseline, *way)

    def _plan(self, held: Held) -> Iterator[Work]:
        target = _target(held)
        victims = chosen(held, self.budget.images, self.seed)
        whom = {"": victims, NOISE: noise(target.served, victims, self.seed)}
        for rows in self.strangers:
            whom[rows.name] = rejected_strangers(
                held, target.served, rows, self.budget.images, self.seed
            )
        for attack in self._spread.attacks:
            if len(whom[attack.of].images):
                victims = whom[attack.of]
                yield MODEL, attack, partial(attack_model, target, victims, attack, self.seed)
        for baseline in held.baselines:
            attacked = _attacked(baseline)
            for attack in self.budget.attacks:
                if attack.kind == PLAIN or (attack.kind == TARGETED and not attack.detection):
                    work = (baseline.name, attacked, whom[""], attack, self.seed)
                    yield baseline.name, attack, partial(attack_baseline, *work)


def _refuse_another(
    cells: Cells, file: str, cell: AttackCell | TrajectoryCell | None, source: str, attack: Attack
) -> None:
    if cell is not None and (cell.source, cell.attack) != (source, attack.name):
        raise broken(cells.folder / f"{file}.json")


def _refuse_damaged(path: Path, cell: TrajectoryCell) -> None:
    """A run that cannot be read, or is no run of the images of ``cell``."""
    try:
        run = read_attack_run(path)
    except DataError as error:
        raise broken(path) from error
    ways = cell.trajectories
    steps = {len(one.predicted) for one in ways}
    if run.labels.tolist() != [one.label for one in ways] or steps != {run.images.shape[1]}:
        raise broken(path)


def _write_run(path: Path, run: AttackRun) -> None:
    """In one step, as cells are."""
    part = path.with_suffix(".part.npz")
    write_attack_run(part, run)
    part.replace(path)


def _attacked(baseline: Baseline) -> AttackedBaseline:
    return AttackedBaseline(baseline.classifier.requires_grad_(False))


def _target(held: Held) -> Target:
    classifier, calibration = held.model.checkpoint.classifier, held.model.calibration
    return Target(ServedGate(classifier, calibration), SmoothGate(classifier, calibration))


def chosen(held: Held, count: int, seed: int) -> Victims:
    """``count`` of the known images that are classified rightly and let in, drawn."""
    labels, decided = held.known.images.labels, held.known.judged.decisions
    good = (labels != UNLABELLED) & (decided.class_index == labels) & ~decided.rejected
    index = np.random.default_rng(seed).permutation(np.flatnonzero(good))[:count]
    return _victims(held, np.sort(index), seed)


def noise(served: ServedGate, like: Victims, seed: int) -> Victims:
    """As many images of uniform noise, which have no class."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, like.images.shape, dtype=np.uint8)
    labels = np.full(len(images), UNLABELLED, dtype=np.int64)
    return Victims(images=images, labels=labels, aims=labels, score=served(images).score)


def rejected_strangers(
    held: Held, served: ServedGate, rows: StrangeRows, count: int, seed: int
) -> Victims:
    """``count`` images of a set that the gate rejects, drawn; they have no class here."""
    pixels = unseen_strangers(held, rows).images.pixels
    order = np.random.default_rng(seed).permutation(len(pixels))
    parts: list[IntArray] = []
    for part in np.array_split(order, range(count, len(order), count)):
        parts.append(part[served(pixels[part]).rejected])
        if sum(map(len, parts)) >= count:
            break
    images = pixels[np.sort(np.concatenate(parts)[:count])]
    labels = np.full(len(images), UNLABELLED, dtype=np.int64)
    score = served(images).score if len(images) else np.zeros(0)
    return Victims(images=images, labels=labels, aims=labels, score=score)


def _pass_seconds(target: Target, victims: Victims) -> float:
    """Of all victims, forward through the gate and back, by what the first part of them takes the
    second time."""
    part = parts_of(victims, np.arange(len(victims.images)))[0]
    x = victims.take(part).x
    for _ in range(2):
        began = time.perf_counter()
        at = x.clone().requires_grad_()
        gradient(target.gate(at).score, at)
    return (time.perf_counter() - began) * len(victims.images) / len(part)


def _victims(held: Held, index: IntArray, seed: int) -> Victims:
    labels, classes = held.known.images.labels[index], held.model.calibration.classes
    return Victims(
        images=held.known.images.pixels[index],
        labels=labels,
        aims=others(labels, classes, seed) if classes > 1 else labels,
        score=held.known.judged.scores[GATE][index],
    )


def _code_sum() -> str:
    """Of the files that say what an attack is, and how it is made."""
    attacks = sorted(Path(str(the_attacks.__file__)).parent.glob("*.py"))
    modules = (attack_cells, attack_baselines, trajectories, batch_sizes)
    made = (Path(str(module.__file__)) for module in modules)
    return sum_of_sources([*attacks, *made])
