"""One attack on a baseline: the model's images, as far as the baseline classifies them rightly."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.detection import share_of
from model.image import UInt8Array
from train.attacks.apgd import apgd
from train.attacks.attacked import AttackedBaseline
from train.attacks.carlini_wagner import carlini_wagner, looks_anyhow
from train.attacks.pgd import pgd
from train.attacks.served import AT_ONCE, distances, pixels, rounded
from train.batch_sizes import in_parts
from train.evaluation.attack_cell import AttackCell
from train.evaluation.attack_cells import (
    SEEDS_APART,
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
    attacked = rightly_classified(baseline, victims)
    images, left = victims.images.copy(), attacked
    for restart in range(attack.restarts):
        if not len(left):
            break
        for number, part in enumerate(parts_of(victims, left)):
            drawn = seed + restart + SEEDS_APART * number
            moved = _attacked(baseline, victims.take(part), attack, drawn)
            images[part] = rounded(moved)
        left = left[rightly_classified(baseline, replace(victims, images=images).take(left))]
    return _cell(name, victims, attack, images, (attacked, left), time.perf_counter() - began)


def _cell(
    name: str,
    victims: Victims,
    attack: Attack,
    images: UInt8Array,
    found: tuple[IntArray, IntArray],
    seconds: float,
) -> AttackCell:
    """``images``: what became of all victims; ``found``: which were attacked, and which of these
    were left as they were classified."""
    attacked, left = found
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
        seconds=seconds,
        moved=moved_of(l2, wrong),
    )


def rightly_classified(baseline: AttackedBaseline, victims: Victims) -> IntArray:
    """Which of the victims are worth an attack, (n,)."""
    return np.flatnonzero(logits_of(baseline, victims.images).argmax(axis=1) == victims.labels)


def logits_of(baseline: AttackedBaseline, images: UInt8Array) -> FloatArray:
    """What it says of 8-bit images (B, C, H, W): (B, K)."""
    parts = in_parts(len(images), int(np.prod(images.shape[1:])), AT_ONCE)
    with torch.no_grad():
        found = [baseline.look(pixels(images[part]))[0] for part in parts]
    logits: FloatArray = torch.cat(found).double().numpy()
    return logits


def _attacked(baseline: AttackedBaseline, victims: Victims, attack: Attack, seed: int) -> Tensor:
    x, labels = victims.x, torch.from_numpy(victims.labels)
    if attack.kind == TARGETED:
        aims = torch.from_numpy(victims.aims)
        return carlini_wagner(looks_anyhow(baseline), x, aims, settings_of(attack)).images
    if attack.method == "APGD":
        return apgd(baseline, x, labels, ball_of(attack), attack.steps, seed)
    return pgd(baseline, x, labels, ball_of(attack), steps_of(attack), seed)
