"""Attacked images on their way: from the original to what is sent, as the served gate judges each.

Fig. 6 of Mackowiak et al., CVPR 2021, with the gate in the place of its latent plane: how far the
other class is ahead, against how far the score is from rejection; of a baseline, which has no gate,
against how much its logits speak for any class. An attack on few images, from starts of its own, is
followed; ``train.evaluation.attack_cells`` counts what the same attack comes to. Drawn in
``train.evaluation.trajectory_story``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from calibration.arrays import FloatArray, IntArray
from model.image import UInt8Array
from train.attacks.attacked import AttackedBaseline
from train.attacks.pgd import Watch, pgd, selective_pgd
from train.attacks.served import ServedGate, rounded
from train.evaluation.attack_baselines import logits_of
from train.evaluation.attack_cell import MODEL
from train.evaluation.attack_cells import Target, Victims, ball_of, steps_of
from train.evaluation.attack_plan import ADAPTIVE, Attack
from train.evaluation.attack_run import UNTARGETED, AttackRun
from train.evaluation.trajectory_cell import Trajectory, TrajectoryCell

#: Images that are followed, and points of the way of each: both ends, and steps between.
IMAGES, POINTS = 6, 12


def some(victims: Victims) -> Victims:
    """``IMAGES`` of them evenly apart, so of several classes where rows are ordered by class."""
    count = min(IMAGES, len(victims.images))
    index = np.linspace(0, len(victims.images) - 1, count).round().astype(np.int64)
    return victims.take(index)


def follow(
    target: Target, victims: Victims, attack: Attack, seed: int
) -> tuple[TrajectoryCell, AttackRun]:
    """PGD or selective PGD, one restart: the way of each victim, and the images that it leads by.

    The images are those that would be sent, in 8 bits. A selective attack ends in the best point
    that it has met, which need not be its last.
    """
    seen = _Points(attack.steps)
    images = seen.ways(victims, _moved(target, victims, attack, seed, seen))
    limit = target.limit.numpy()
    found = tuple(
        _judged(target.served, limit, steps, int(label))
        for steps, label in zip(images, victims.labels, strict=True)
    )
    cell = TrajectoryCell(source=MODEL, attack=attack.name, trajectories=found)
    return cell, _run(images, victims.labels)


def follow_baseline(
    name: str, baseline: AttackedBaseline, victims: Victims, attack: Attack, seed: int
) -> tuple[TrajectoryCell, AttackRun]:
    """The same of a baseline under PGD."""
    seen, labels = _Points(attack.steps), torch.from_numpy(victims.labels)
    ball, steps = ball_of(attack), steps_of(attack)
    end = pgd(baseline, victims.x, labels, ball, steps, seed, watch=seen)
    images = seen.ways(victims, end)
    found = tuple(
        replace(
            _way(logits, logits.argmax(axis=1), int(label)),
            evidence=tuple(logsumexp(logits, axis=1).tolist()),
        )
        for logits, label in zip(
            (logits_of(baseline, one) for one in images), victims.labels, strict=True
        )
    )
    cell = TrajectoryCell(source=name, attack=attack.name, trajectories=found)
    return cell, _run(images, victims.labels)


class _Points:
    """Keeps evenly spaced ones of the points that it is told, at most ``POINTS`` - 2."""

    def __init__(self, steps: int) -> None:
        self._wanted = {round(step) for step in np.linspace(0, steps, POINTS - 1)[:-1].tolist()}
        self._told = 0
        self._images: list[UInt8Array] = []

    def __call__(self, at: Tensor) -> None:
        if self._told in self._wanted:
            self._images.append(rounded(at))
        self._told += 1

    def ways(self, victims: Victims, end: Tensor) -> UInt8Array:
        """Images (N, P, C, H, W): the originals, what was kept, and the ``end``."""
        found: UInt8Array = np.stack([victims.images, *self._images, rounded(end)], axis=1)
        return found


def _moved(target: Target, victims: Victims, attack: Attack, seed: int, watch: Watch) -> Tensor:
    gate, x, labels = target.gate, victims.x, torch.from_numpy(victims.labels)
    ball, steps = ball_of(attack), steps_of(attack)
    if attack.kind == ADAPTIVE:
        return selective_pgd(gate, x, labels, ball, steps, seed, limit=target.limit, watch=watch)
    return pgd(gate, x, labels, ball, steps, seed, watch=watch)


def _judged(served: ServedGate, limit: FloatArray, images: UInt8Array, label: int) -> Trajectory:
    """``images`` (P, C, H, W) of one way; ``limit`` (K,) as ``Target.limit``."""
    logits, decided = served.with_logits(images)
    excess = decided.score - limit[decided.class_index]
    return replace(
        _way(logits, decided.class_index, label),
        rejected=tuple(decided.rejected.tolist()),
        excess=tuple(excess.tolist()),
    )


def _way(logits: FloatArray, predicted: IntArray, label: int) -> Trajectory:
    """``logits`` (P, K), ``predicted`` (P,) of one way, as far as they tell of it."""
    other = _class_ended_in(logits[-1], predicted, label)
    return Trajectory(
        label=label,
        other=other,
        predicted=tuple(predicted.tolist()),
        margin=tuple((logits[:, other] - logits[:, label]).tolist()),
    )


def _class_ended_in(logits: FloatArray, predicted: IntArray, label: int) -> int:
    if predicted[-1] != label:
        return int(predicted[-1])
    others = logits.copy()
    others[label] = -np.inf
    return int(others.argmax())


def _run(images: UInt8Array, labels: IntArray) -> AttackRun:
    return AttackRun(
        images=images.astype(np.float32) / np.float32(255),
        labels=labels,
        targets=np.full(len(images), UNTARGETED, dtype=np.int64),
    )
