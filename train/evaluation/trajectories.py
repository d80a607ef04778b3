"""Attacked images on their way: from the original to what is sent, as the served gate judges each.

Fig. 6 of Mackowiak et al., CVPR 2021, with the gate in the place of its latent plane: how far the
other class is ahead, against how far the score is from rejection. An attack on few images, from
starts of its own, is followed; ``train.evaluation.attack_cells`` counts what the same attack comes
to. Drawn in ``train.evaluation.trajectory_story``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import FloatArray, IntArray
from calibration.plain_json import plain
from model.image import UInt8Array
from train.attacks.pgd import Watch, pgd, selective_pgd
from train.attacks.served import ServedGate, rounded
from train.evaluation.attack_cells import Target, Victims, ball_of, steps_of
from train.evaluation.attack_plan import ADAPTIVE, Attack
from train.evaluation.attack_run import UNTARGETED, AttackRun

#: Images that are followed, and points of the way of each: both ends, and steps between.
IMAGES, POINTS = 6, 12


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One image under one attack, P points: the original first, what the attack ends in last.

    ``label``: the true class, ``other``: the class ended in, where that is the true one the next
    best. ``predicted`` (P,) and ``rejected`` (P,) as served; ``margin`` (P,): logit of ``other``
    less that of ``label``, nats; ``excess`` (P,): S less the place from which on an image of the
    predicted class is rejected, so rejected where above 0.
    """

    label: int
    other: int
    predicted: tuple[int, ...]
    rejected: tuple[bool, ...]
    margin: tuple[float, ...]
    excess: tuple[float, ...]

    @property
    def evades(self) -> bool:
        """Whether it ends as another class, and let in."""
        return self.predicted[-1] != self.label and not self.rejected[-1]


@dataclass(frozen=True, kw_only=True)
class TrajectoryCell:
    """All that are followed of one attack, by name."""

    attack: str
    trajectories: tuple[Trajectory, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, which ``from_json`` takes."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrajectoryCell:
        """The inverse; raises ``ValueError`` for anything else."""
        try:
            found = tuple(_parsed(one) for one in content["trajectories"])
            return cls(attack=content["attack"], trajectories=found)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a cell of this version: {error!r}") from error


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
    end = _moved(target, victims, attack, seed, seen)
    images = np.stack([victims.images, *seen.images, rounded(end)], axis=1)
    limit = target.limit.numpy()
    found = tuple(
        _trajectory(target.served, limit, steps, int(label))
        for steps, label in zip(images, victims.labels, strict=True)
    )
    run = AttackRun(
        images=images.astype(np.float32) / np.float32(255),
        labels=victims.labels,
        targets=np.full(len(images), UNTARGETED, dtype=np.int64),
    )
    return TrajectoryCell(attack=attack.name, trajectories=found), run


class _Points:
    """Keeps evenly spaced ones of the points that it is told, at most ``POINTS`` - 2."""

    def __init__(self, steps: int) -> None:
        self._wanted = {round(step) for step in np.linspace(0, steps, POINTS - 1)[:-1].tolist()}
        self._told = 0
        self.images: list[UInt8Array] = []

    def __call__(self, at: Tensor) -> None:
        if self._told in self._wanted:
            self.images.append(rounded(at))
        self._told += 1


def _moved(target: Target, victims: Victims, attack: Attack, seed: int, watch: Watch) -> Tensor:
    gate, x, labels = target.gate, victims.x, torch.from_numpy(victims.labels)
    ball, steps = ball_of(attack), steps_of(attack)
    if attack.kind == ADAPTIVE:
        return selective_pgd(gate, x, labels, ball, steps, seed, limit=target.limit, watch=watch)
    return pgd(gate, x, labels, ball, steps, seed, watch=watch)


def _trajectory(
    served: ServedGate, limit: FloatArray, images: UInt8Array, label: int
) -> Trajectory:
    """``images`` (P, C, H, W) of one way; ``limit`` (K,) as ``Target.limit``."""
    logits, decided = served.with_logits(images)
    other = _class_ended_in(logits[-1], decided.class_index, label)
    return Trajectory(
        label=label,
        other=other,
        predicted=tuple(decided.class_index.tolist()),
        rejected=tuple(decided.rejected.tolist()),
        margin=tuple((logits[:, other] - logits[:, label]).tolist()),
        excess=tuple((decided.score - limit[decided.class_index]).tolist()),
    )


def _class_ended_in(logits: FloatArray, predicted: IntArray, label: int) -> int:
    if predicted[-1] != label:
        return int(predicted[-1])
    others = logits.copy()
    others[label] = -np.inf
    return int(others.argmax())


def _parsed(content: Mapping[str, Any]) -> Trajectory:
    return Trajectory(
        label=content["label"],
        other=content["other"],
        predicted=tuple(content["predicted"]),
        rejected=tuple(content["rejected"]),
        margin=tuple(map(float, content["margin"])),  # of the words of ``plain``, too
        excess=tuple(map(float, content["excess"])),
    )
