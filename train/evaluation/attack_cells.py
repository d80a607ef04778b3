"""One attack on the model or on a baseline: what became of the classes, of the gate, of the images.

Attacked are images that are classified rightly and let in, so that whatever is wrong afterwards is
the attack's doing; of a baseline the same images, as far as it classifies them rightly. An image
counts by its best restart. All is measured on what is sent, 8-bit images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    QUERIES,
    SEARCHES,
    STRANGERS,
    TARGETED,
    Attack,
)

#: Length of a step, as a share of the ball, and of Adam's for Carlini and Wagner.
STEP, RATE = 0.25, 0.05


@dataclass(frozen=True, kw_only=True)
class AttackCell:
    """``source``: the model or a baseline. Of ``images`` attacked: ``wrong``, another class than
    the true one; ``detected``, of the wrong ones rejected; ``evaded``, wrong and let in; of
    strangers ``evaded`` alone has a meaning: let in. ``auroc`` of the gate's score, attacked
    against as they were. ``l2``: mean over hits, pixels in [0, 1]. A baseline has no gate."""

    source: str
    attack: str
    images: int
    wrong: Rate
    detected: Rate | None
    evaded: Rate | None
    auroc: float | None
    l2: float | None
    seconds: float

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
            return cls(**{**content, **rates})
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
    best: Outcome | None = None
    for restart in range(attack.restarts):
        found = outcome(
            target.served, _attacked(target, victims, attack, seed + restart), victims.images
        )
        best = found if best is None else _better(best, found, victims.labels)
    if best is None:
        raise ValueError(f"{attack.name} has no restart: expected one at least")
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


def _attacked(target: Target, victims: Victims, attack: Attack, seed: int) -> Tensor:
    gate, x, labels = target.gate, victims.x, torch.from_numpy(victims.labels)
    if attack.kind == TARGETED:
        density = Density.of(gate.calibration, x[0].numel())
        aims = others(labels, gate.classifier.config.n_classes, seed)
        return carlini_wagner(gate, x, aims, _settings(attack), density)[0]
    if attack.kind == QUERIES:
        eps = round(attack.eps)
        found = square(target.served, victims.images, victims.labels, eps, attack.steps, seed)
        return torch.from_numpy(found).float() / 255
    ball, steps = ball_of(attack), steps_of(attack)
    if attack.kind == STRANGERS:
        return ood_to_id(gate, x, ball, steps, seed, limit=target.limit)
    if attack.kind == ADAPTIVE:
        orthogonal = attack.method.startswith("orthogonal")
        return selective_pgd(
            gate, x, labels, ball, steps, seed, limit=target.limit, orthogonal=orthogonal
        )
    if attack.method == "APGD":
        return apgd(gate, x, labels, ball, attack.steps, seed)
    return pgd(gate, x, labels, ball, steps, seed)


def _better(one: Outcome, other: Outcome, labels: IntArray) -> Outcome:
    """Of two restarts, image by image: let in and wrong, then wrong, then nearer to be let in."""

    def rank(found: Outcome) -> FloatArray:
        wrong = found.predicted != labels
        return np.where(wrong, np.where(found.rejected, 1.0, 2.0), 0.0)

    ours, theirs = rank(one), rank(other)
    take = (theirs > ours) | ((theirs == ours) & (other.score < one.score))
    chosen = {
        name: np.where(take, getattr(other, name), getattr(one, name))
        for name in ("predicted", "rejected", "score", "l2", "linf")
    }
    return Outcome(**chosen)


def ball_of(attack: Attack) -> Ball:
    """What the attack may change."""
    norm: Norm = "linf" if attack.norm == "linf" else "l2"
    return Ball(norm, attack.eps * LEVEL if norm == "linf" else attack.eps)


def steps_of(attack: Attack) -> Steps:
    """How a gradient attack goes."""
    return Steps(count=attack.steps, size=STEP * ball_of(attack).eps)


def _settings(attack: Attack) -> Settings:
    return Settings(
        kappa=attack.kappa,
        detection=attack.detection,
        searches=SEARCHES,
        steps=attack.steps,
        rate=RATE,
    )
