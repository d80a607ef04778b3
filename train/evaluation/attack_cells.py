"""One attack on the model or on a baseline: what became of the classes, of the gate, of the images.

Attacked are images that are classified rightly and let in, so that whatever is wrong afterwards is
the attack's doing; of a baseline the same images, as far as it classifies them rightly. An image
counts by its best restart. All is measured on what is sent, 8-bit images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.detection import Rate, share_of
from calibration.metrics import auroc
from calibration.score_histogram import score_histogram
from model.image import UInt8Array
from train.attacks.apgd import apgd
from train.attacks.attacked import AttackedBaseline
from train.attacks.ball import Ball, Norm
from train.attacks.carlini_wagner import Density, Settings, carlini_wagner
from train.attacks.gate import SmoothGate
from train.attacks.pgd import Steps, ood_to_id, pgd, selective_pgd
from train.attacks.served import Outcome, ServedGate, distances, outcome, rounded
from train.attacks.square import square
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
#: Of Adam's steps for Carlini and Wagner.
RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class AttackCell:
    """``source``: the model or a baseline. Of ``images`` attacked: ``wrong``, another class than
    the true one; ``detected``, of the wrong ones rejected; ``evaded``, wrong and let in; of
    strangers ``evaded`` alone has a meaning: let in. ``auroc`` of the gate's score, attacked
    against as they were. ``l2``: mean over hits, pixels in [0, 1]. ``let_in`` (images,): which of
    them ``evaded`` counts. A baseline has no gate."""

    source: str
    attack: str
    images: int
    wrong: Rate
    detected: Rate | None
    evaded: Rate | None
    auroc: float | None
    l2: float | None
    seconds: float
    let_in: tuple[bool, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, which ``from_json`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> AttackCell:
        """The inverse; raises ``ValueError`` for anything else."""
        try:
            rates = {
                name: None if content[name] is None else Rate(**content[name])
                for name in ("wrong", "detected", "evaded")
            }
            return cls(**{**content, **rates, "let_in": tuple(content["let_in"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a cell of this version: {error!r}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Victims:
    """Images (B, C, H, W) with their classes (B,), as they were answered: ``score`` S (B,)."""

    images: UInt8Array
    labels: IntArray
    score: FloatArray

    @property
    def x(self) -> Tensor:
        """Pixels in [0, 1]."""
        return torch.from_numpy(self.images).float() / 255

    def take(self, index: IntArray) -> Victims:
        """Some of them."""
        return Victims(
            images=self.images[index], labels=self.labels[index], score=self.score[index]
        )


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
        source="model",
        attack=attack.name,
        images=len(victims.images),
        wrong=share_of(wrong),
        detected=share_of(best.rejected[hits] if not strange else best.rejected),
        evaded=share_of(evaded),
        auroc=auroc(victims.score, best.score),
        l2=float(best.l2[hits].mean()) if hits.any() else None,
        seconds=time.perf_counter() - began,
        let_in=tuple(evaded.tolist()),
    )


def attack_baseline(
    name: str, baseline: AttackedBaseline, victims: Victims, attack: Attack, seed: int
) -> AttackCell:
    """A baseline under a plain or a targeted attack; it has no gate to be looked past."""
    began = time.perf_counter()
    x, labels = victims.x, torch.from_numpy(victims.labels)
    if attack.kind == TARGETED:
        aims = others(labels, baseline.classifier.config.n_classes, seed)
        moved, _ = carlini_wagner(baseline, x, aims, _settings(attack), None)
    elif attack.method == "APGD":
        moved = apgd(baseline, x, labels, ball_of(attack), attack.steps, seed)
    else:
        moved = pgd(baseline, x, labels, ball_of(attack), steps_of(attack), seed)
    images = rounded(moved)
    with torch.no_grad():
        predicted = baseline.look(torch.from_numpy(images).float() / 255)[0].argmax(1).numpy()
    wrong: BoolArray = predicted != victims.labels
    l2, _ = distances(images, victims.images)
    return AttackCell(
        source=name,
        attack=attack.name,
        images=len(images),
        wrong=share_of(wrong),
        detected=None,
        evaded=None,
        auroc=None,
        l2=float(l2[wrong].mean()) if wrong.any() else None,
        seconds=time.perf_counter() - began,
    )


def others(labels: Tensor, classes: int, seed: int) -> Tensor:
    """Another of at least two classes for each, drawn."""
    steps = np.random.default_rng(seed).integers(1, classes, len(labels))
    return (labels + torch.from_numpy(steps)) % classes


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
        density = Density.of(gate.calibration, x[0].numel())
        aims = others(labels, gate.classifier.config.n_classes, seed)
        return carlini_wagner(gate, x, aims, _settings(attack), density)[0]
    if attack.kind == QUERIES:
        eps = round(attack.eps)
        found = square(target.served, victims.images, victims.labels, eps, attack.steps, seed)
        return torch.from_numpy(found).float() / 255
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
    moved = _attacked(target, victims, attack, seed + restart, steps_of(attack, restart), start)
    return outcome(target.served, moved, victims.images)


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


def _settings(attack: Attack) -> Settings:
    return Settings(
        kappa=attack.kappa,
        detection=attack.detection,
        searches=SEARCHES,
        steps=attack.steps,
        rate=RATE,
    )
