"""One attack on a baseline: the model's images, as far as the baseline classifies them rightly."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import BoolArray, IntArray
from calibration.detection import share_of
from model.image import UInt8Array
from train.attacks.apgd import apgd
from train.attacks.attacked import AttackedBaseline
from train.attacks.carlini_wagner import carlini_wagner, looks_anyhow
from train.attacks.pgd import pgd
from train.attacks.served import distances, pixels, rounded
from train.evaluation.attack_cell import AttackCell
from train.evaluation.attack_cells import (
    Victims,
    ball_of,
    moved_of,
    parts_of,
    settings_of,
    steps_of,
)
from train.evaluation.attack_plan import TARGETED, Attack


def attack_baseline(
    name: str, baseline: AttackedBaseline, victims: Victims, attack: Attack, seed: int
) -> AttackCell:
    """A baseline under a plain or a targeted attack, on those images that it classifies rightly;
    it has no gate to be looked past."""
    began = time.perf_counter()
    predicted = _classes(baseline, victims.images)
    attacked = np.flatnonzero(predicted == victims.labels)
    images, left = victims.images.copy(), attacked
    for restart in range(attack.restarts):
        for part in parts_of(victims, left):
            moved = _attacked(baseline, victims.take(part), attack, seed + restart)
            images[part] = rounded(moved)
        left = left[_classes(baseline, images[left]) == victims.labels[left]]
        if not len(left):
            break
    wrong: BoolArray = np.zeros(len(images), dtype=np.bool_)
    wrong[attacked] = ~np.isin(attacked, left)
    l2, _ = distances(images, victims.images)
    return AttackCell(
        source=name,
        attack=attack.name,
        images=len(attacked),
        wrong=share_of(wrong[attacked]),
        detected=None,
        evaded=None,
        auroc=None,
        l2=float(l2[wrong].mean()) if wrong.any() else None,
        seconds=time.perf_counter() - began,
        moved=moved_of(l2, wrong),
    )


def _classes(baseline: AttackedBaseline, images: UInt8Array) -> IntArray:
    if not len(images):
        return np.zeros(0, dtype=np.int64)
    with torch.no_grad():
        x = pixels(images)
        return baseline.look(x)[0].argmax(1).numpy()


def _attacked(baseline: AttackedBaseline, victims: Victims, attack: Attack, seed: int) -> Tensor:
    x, labels = victims.x, torch.from_numpy(victims.labels)
    if attack.kind == TARGETED:
        aims = torch.from_numpy(victims.aims)
        return carlini_wagner(looks_anyhow(baseline), x, aims, settings_of(attack)).images
    if attack.method == "APGD":
        return apgd(baseline, x, labels, ball_of(attack), attack.steps, seed)
    return pgd(baseline, x, labels, ball_of(attack), steps_of(attack), seed)
