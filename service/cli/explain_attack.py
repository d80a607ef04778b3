"""Attacks in the decision plane: from each original to what became of it, after Fig. 6 of Mackowiak
et al., CVPR 2021."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from calibration.arrays import FloatArray
from model.classifier import ClassifierOutput, GenerativeClassifier
from model.decision_plane import CLASSES, MASS, decision_plane, trajectory
from model.image import UInt8Array
from service.cli.explain_drawing import CAPTION, caption_below, padded, short
from service.cli.explain_plane import ASPECT, draw_classes, place_labels
from service.cli.explain_subject import ranked_classes
from service.predictor import Predictor
from service.verdict import Verdict
from train.attacks.served import rounded
from train.evaluation.attack_run import UNTARGETED, AttackRun
from train.evaluation.style import GROUND, INK, ORANGE, blank

#: Attacks that are drawn, panels a row, images scored at a time, inches of the figure.
MOST, COLUMNS, BATCH, WIDTH = 12, 3, 64, 12.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """One attack of S steps in the plane of n classes, the original's class and the attack's first.

    ``points`` (S, 2), ``means`` (n, 2), ``boundary`` and ``radius`` as ``model.decision_plane``.
    ``label``: the true class. ``verdicts``: of each step.
    """

    label: str
    classes: tuple[str, ...]
    points: FloatArray
    means: FloatArray
    boundary: float
    radius: float
    verdicts: tuple[Verdict, ...]


def paths_of(predictor: Predictor, run: AttackRun) -> Iterator[Path]:
    """Of the first ``MOST`` attacks. Steps are looked at as the 8-bit images that a file would
    hold, since that is what a gate is shown."""
    labels = predictor.class_labels
    for steps, label, target in zip(run.images[:MOST], run.labels, run.targets, strict=False):
        pixels = rounded(torch.from_numpy(steps))
        batches = [pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH)]
        outputs = [_output(predictor, batch) for batch in batches]
        logits = torch.cat([output.logits for output in outputs]).double()
        top = plane_classes(logits.cpu().numpy(), int(target))
        z = torch.cat([output.z for output in outputs])
        classifier = predictor.bundle.checkpoint.classifier
        means = _points(
            classifier.class_means.of(torch.tensor(top, device=z.device)), top, classifier
        )
        points = _points(z, top, classifier)
        yield Path(
            label=labels[int(label)],
            classes=tuple(labels[k] for k in top),
            points=points,
            means=means,
            boundary=_boundary(logits[0, top[:2]], points, means),
            radius=decision_plane(outputs[0], classifier).radius,
            verdicts=tuple(one for batch in batches for one in predictor(batch)),
        )


@torch.no_grad()
def _output(predictor: Predictor, pixels: UInt8Array) -> ClassifierOutput:
    classifier = predictor.bundle.checkpoint.classifier
    return classifier.classify(torch.from_numpy(pixels).to(classifier.device))


@torch.no_grad()
def _points(z: Tensor, top: list[int], classifier: GenerativeClassifier) -> FloatArray:
    points: FloatArray = trajectory(z, torch.tensor(top, device=z.device), classifier).cpu().numpy()
    return points


def _boundary(logits: Tensor, points: FloatArray, means: FloatArray) -> float:
    """Where the logits of the two first classes meet, those of step 0 being ``logits`` (2,)."""
    if len(means) < 2:
        return math.inf
    return float(points[0, 0] + (logits[0] - logits[1]).item() / means[1, 0])


def plane_classes(logits: FloatArray, target: int) -> list[int]:
    """The classes that span the plane of an attack with ``logits`` (S, K): the original's, then the
    target or what it became, and the original's next ones."""
    ranked = ranked_classes(logits[0], int(logits[0].argmax()))
    end = target if target != UNTARGETED else int(logits[-1].argmax())
    return list(dict.fromkeys([ranked[0], end, *ranked]))[:CLASSES]


def draw_attacks(paths: list[Path], total: int) -> Figure:
    """A panel for each of ``paths``, of ``total`` attacks; to be called under ``style.styled``."""
    columns = min(COLUMNS, len(paths))
    rows = -(-len(paths) // columns)
    width = WIDTH / COLUMNS
    figure = blank(max(columns, 2) * width, rows * (width * ASPECT + 0.35) + 0.8)
    padded(figure)
    for i, path in enumerate(paths):
        _panel(figure.add_subplot(rows, columns, i + 1), path, width - 0.6)
    caption_below(figure, _words(len(paths), total), max(columns, 2) * width)
    return figure


def _panel(axes: Axes, path: Path, inches: float) -> None:
    draw_classes(axes, path.means, path.radius, path.boundary, path.points)
    axes.plot(*path.points.T, color=INK, lw=1.1, zorder=6)
    rejected = np.array([one.rejected for one in path.verdicts])
    axes.plot(*path.points[~rejected].T, "o", color=GROUND, mec=INK, ms=4, zorder=7, clip_on=False)
    axes.plot(*path.points[rejected].T, "o", color=ORANGE, mec=INK, ms=4, zorder=7, clip_on=False)
    ends = zip(("o", "D"), (path.points[0], path.points[-1]), rejected[[0, -1]], strict=True)
    for marker, point, is_rejected in ends:
        color = ORANGE if is_rejected else GROUND
        axes.plot(*point, marker, color=color, mec=INK, mew=1.3, ms=8, zorder=8, clip_on=False)
    labels = [short(label, 16) for label in path.classes]
    place_labels(axes, path.means, labels, inches, avoid=path.points)
    first, last = path.verdicts[0], path.verdicts[-1]
    axes.set_title(f"{short(first.class_label, 18)} → {short(last.class_label, 18)}")
    axes.set_xlabel(
        f"true class {short(path.label, 18)}; p {first.p_value:.2g} {first.decision} → "
        f"{last.p_value:.2g} {last.decision}",
        size=CAPTION,
    )


def _words(shown: int, total: int) -> str:
    words = (
        "Each panel: one attack from the original (circle) to its last step (diamond). Steps are "
        "filled with orange where the gate rejects them, open where it does not; each is looked at "
        "as the 8-bit image that a file would hold. Horizontal: along the line from the mean of "
        "the original's class to that of the target, or of what it became; vertical: distance "
        "from it within the span of the means drawn; both in std. Circles hold at least "
        f"{MASS:.0%} of a class; dashed: where the two classes are equally probable. The gate sees "
        "more than this plane."
    )
    return words if shown == total else f"{words} The first {shown} of {total} attacks."
