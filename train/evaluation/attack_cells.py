"""One attack on the model: what became of the classes, of the gate, of the images.

Attacked are images that are classified rightly and let in, so that whatever is wrong afterwards is
the attack's doing. An image counts by its best restart. All is measured on what is sent,
8-bit images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.detection import share_of
from calibration.metrics import auroc
from calibration.score_histogram import score_histogram
from model.image import UInt8Array
from train.attacks.apgd import apgd
from train.attacks.ball import Ball, Norm
from train.attacks.carlini_wagner import (
    Look,
    Settings,
    carlini_wagner,
    looks_anyhow,
    looks_let_in,
    looks_usual,
)
from train.attacks.gate import SmoothGate
from train.attacks.pgd import Steps, ood_to_id, pgd, selective_pgd
from train.attacks.served import AT_ONCE, Outcome, ServedGate, outcome, pixels
from train.attacks.square import square
from train.batch_sizes import in_parts
from train.evaluation.attack_cell import MODEL, AttackCell
from train.evaluation.attack_plan import (
    ADAPTIVE,
    LEVEL,
    PLAIN,
    QUERIES,
    SEARCHES,
    STRANGERS,
    TARGETED,
    Attack,
)

#: Lengths of a step, as shares of the ball: of the first start, the second and so on, and round.
STEPS = (0.25, 1 / 16)
#: Of Carlini and Wagner's first steps, pixels in [0, 1].
RATE = 0.02
#: What the starts of images that are attacked together and those of the next are apart.
SEEDS_APART = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Victims:
    """Images (B, C, H, W) with their classes (B,), as they were answered: ``score`` S (B,).
    ``aims`` (B,): the classes that targeted attacks want."""

    images: UInt8Array
    labels: IntArray
    aims: IntArray
    score: FloatArray

    @property
    def x(self) -> Tensor:
        """Pixels in [0, 1]."""
        return pixels(self.images)

    def take(self, index: IntArray) -> Victims:
        """Some of them."""
        return Victims(**{f.name: getattr(self, f.name)[index] for f in fields(Victims)})


@dataclass(frozen=True, eq=False)
class Target:
    """The model that is attacked, and what an attacker knows of it."""

    served: ServedGate
    gate: SmoothGate

    @property
    def limit(self) -> Tensor:
        """S above which an image predicted as each class is rejected, (K,)."""
        calibration = self.gate.calibration
        thresholds = calibration.ranking.thresholds(calibration.alpha)
        limits = [
            score_histogram(calibration.ranking, k, float(t)).rejected_above
            for k, t in enumerate(thresholds)
        ]
        return torch.tensor(limits, dtype=torch.float64)


def attack_model(target: Target, victims: Victims, attack: Attack, seed: int) -> AttackCell:
    """The model under one attack, each image's best restart."""
    began = time.perf_counter()
    best = _tried(target, victims, attack, seed, 0, _start(victims, attack, seed))
    for restart in range(1, attack.restarts):
        left = np.flatnonzero(~_content(best, victims.labels, attack))
        if not len(left):
            break
        some = victims.take(left)
        start = _start(victims, attack, seed + restart)
        begin = None if start is None else start[torch.from_numpy(left)]
        again = _tried(target, some, attack, seed, restart, begin)
        best = _with_better(best, again, left, some.labels)
    wrong: BoolArray = best.predicted != victims.labels
    strange = attack.kind == STRANGERS
    evaded: BoolArray = ~best.rejected if strange else wrong & ~best.rejected
    hits = evaded if strange else wrong
    return AttackCell(
        source=MODEL,
        attack=attack.name,
        images=len(victims.images),
        wrong=share_of(wrong),
        detected=share_of(best.rejected[hits] if not strange else best.rejected),
        evaded=share_of(evaded),
        auroc=auroc(victims.score, best.score),
        l2=float(best.l2[hits].mean()) if hits.any() else None,
        seconds=time.perf_counter() - began,
        let_in=tuple(evaded.tolist()),
        moved=moved_of(best.l2, hits),
    )


def others(labels: IntArray, classes: int, seed: int) -> IntArray:
    """Another of at least two classes for each, drawn."""
    steps = np.random.default_rng(seed).integers(1, classes, len(labels))
    found: IntArray = (labels + steps) % classes
    return found


def moved_of(l2: FloatArray, hits: BoolArray) -> tuple[float | None, ...]:
    """``AttackCell.moved`` of images (B,)."""
    return tuple(float(one) if hit else None for one, hit in zip(l2, hits, strict=True))


def parts_of(victims: Victims, which: IntArray) -> list[IntArray]:
    """Of the victims ``which``, those that memory holds the gradients of together."""
    dim = int(np.prod(victims.images.shape[1:]))
    return [which[part] for part in in_parts(len(which), dim, AT_ONCE)]


def _attacked(
    target: Target,
    victims: Victims,
    attack: Attack,
    seed: int,
    steps: Steps,
    start: Tensor | None,
) -> Tensor:
    gate, x, labels = target.gate, victims.x, torch.from_numpy(victims.labels)
    if attack.kind == TARGETED:
        aims = torch.from_numpy(victims.aims)
        return carlini_wagner(_look(target, attack), x, aims, settings_of(attack)).images
    if attack.kind == QUERIES:
        eps = round(attack.eps)
        found = square(target.served, victims.images, victims.labels, eps, attack.steps, seed)
        return pixels(found)
    ball = ball_of(attack)
    if attack.kind == STRANGERS:
        return ood_to_id(gate, x, ball, steps, seed, limit=target.limit)
    if attack.kind == ADAPTIVE:
        return selective_pgd(
            gate,
            x,
            labels,
            ball,
            steps,
            seed,
            limit=target.limit,
            orthogonal=attack.method.startswith("orthogonal"),
            start=start,
        )
    if attack.method == "APGD":
        return apgd(gate, x, labels, ball, attack.steps, seed)
    return pgd(gate, x, labels, ball, steps, seed)


def _tried(
    target: Target,
    victims: Victims,
    attack: Attack,
    seed: int,
    restart: int,
    start: Tensor | None,
) -> Outcome:
    moved = victims.x
    for number, part in enumerate(parts_of(victims, np.arange(len(moved)))):
        begin = None if start is None else start[torch.from_numpy(part)]
        drawn, steps = seed + restart + SEEDS_APART * number, steps_of(attack, restart)
        moved[part] = _attacked(target, victims.take(part), attack, drawn, steps, begin)
    return outcome(target.served, moved, victims.images)


def _look(target: Target, attack: Attack) -> Look:
    """What a targeted attack minds beside the class."""
    if attack.sees_gate:
        return looks_let_in(target.gate, target.limit)
    return looks_usual(target.gate) if attack.detection else looks_anyhow(target.gate)


def _content(found: Outcome, labels: IntArray, attack: Attack) -> BoolArray:
    """Where an attacker has no reason to start again; one who knows no gate looks at the class."""
    if attack.kind in (PLAIN, TARGETED):
        wrong: BoolArray = found.predicted != labels
        return wrong
    return found.evades(labels)


def _with_better(found: Outcome, again: Outcome, which: IntArray, labels: IntArray) -> Outcome:
    """``found`` with the images ``which`` of it as they came out ``again``, where that is better:
    let in and wrong, then wrong, then nearer to be let in."""

    def rank(one: Outcome, index: IntArray) -> FloatArray:
        wrong = one.predicted[index] != labels
        return np.where(wrong, np.where(one.rejected[index], 1.0, 2.0), 0.0)

    everything = np.arange(len(which))
    ours, theirs = rank(found, which), rank(again, everything)
    take = (theirs > ours) | ((theirs == ours) & (again.score < found.score[which]))
    chosen = {field.name: getattr(found, field.name).copy() for field in fields(Outcome)}
    for name, values in chosen.items():
        values[which[take]] = getattr(again, name)[take]
    return Outcome(**chosen)


def _start(victims: Victims, attack: Attack, seed: int) -> Tensor | None:
    """For each image one of another class, drawn, that the gate lets in; None for a random start,
    of another attack or where there is a single class."""
    if not attack.from_another or len(set(victims.labels.tolist())) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(victims.labels))
    differs = victims.labels[order] != victims.labels[:, None]
    return victims.x[torch.from_numpy(order[differs.argmax(axis=1)])]


def ball_of(attack: Attack) -> Ball:
    """What the attack may change."""
    norm: Norm = "linf" if attack.norm == "linf" else "l2"
    return Ball(norm, attack.eps * LEVEL if norm == "linf" else attack.eps)


def steps_of(attack: Attack, restart: int = 0) -> Steps:
    """How a gradient attack goes after so many starts."""
    return Steps(count=attack.steps, size=STEPS[restart % len(STEPS)] * ball_of(attack).eps)


def settings_of(attack: Attack) -> Settings:
    """How Carlini and Wagner's goes."""
    return Settings(
        kappa=attack.kappa,
        detection=attack.detection,
        searches=SEARCHES,
        steps=attack.steps,
        rate=RATE,
    )
