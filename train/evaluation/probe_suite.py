"""The suite ``probes``: what classifiers go by, shape or texture, and what the gate says to it.

Of each probe a cell, so a run that was stopped goes on where it was. Probes are made of the known
images that have a class; what a probe is stands in ``train.evaluation.probes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.detection import Rate, share_of
from model.image import UInt8Array
from train.data import DataError
from train.evaluation.cells import Cells
from train.evaluation.measure import Held, judged
from train.evaluation.part import Part
from train.evaluation.posterior import MODEL
from train.evaluation.probe_cells import CLEAN, EXCHANGED, SILHOUETTES, ProbeCell
from train.evaluation.probe_story import part_of
from train.evaluation.probes import exchanged, partners, shuffled, silhouettes
from train.images import UNLABELLED
from train.progress import Progress

#: Orders of patches and partners are drawn from it.
SEED = 0

#: Patches a side.
GRIDS = (2, 4, 7)


@dataclass(frozen=True, kw_only=True)
class ProbeSuite:
    """``grids``: patches a side, those finer than the images left out."""

    grids: tuple[int, ...] = GRIDS
    seed: int = SEED
    name: ClassVar[str] = "probes"

    def record(self, held: Held) -> dict[str, Any]:
        """What its cells follow from; raises ``DataError`` without two classes of images."""
        labels = _labelled(held).known.images.labels
        if len(np.unique(labels)) < 2:
            raise DataError(
                f"--suite {self.name}: found {len(np.unique(labels))} classes among the rows of "
                f"{held.source.spec}, expected two at least: give labelled rows of two classes, or "
                "a larger --limit"
            )
        return {"grids": list(self.grids), "seed": self.seed}

    def measure(self, held: Held, cells: Cells) -> Part:
        """Every cell that is not yet there, and what all come to."""
        held = _labelled(held)
        side = min(held.model.checkpoint.spec.shape[1:])
        names = [CLEAN, SILHOUETTES]
        names += [f"{grid} x {grid} patches" for grid in self.grids if grid <= side]
        names.append(EXCHANGED)
        found = []
        with Progress(self.name, len(held.known.images) * len(names)) as progress:
            for name in names:
                cell = cells.parsed(_file(name), ProbeCell.from_json)
                if cell is None:
                    cell = self._measured(held, name)
                    cells.write(_file(name), cell.to_json())
                found.append(cell)
                progress.advance(len(held.known.images), last=name)
        return part_of(tuple(found), self.seed)

    def _measured(self, held: Held, name: str) -> ProbeCell:
        images, labels = held.known.images, held.known.images.labels
        others = partners(labels, self.seed)
        pixels = self._made(images.pixels, others, name)
        side, logits = judged(
            held.model, held.judge, name, replace(images, pixels=pixels), held.baselines
        )
        predicted = {MODEL: side.judged.decisions.class_index}
        predicted |= {source: rows.argmax(axis=1) for source, rows in logits.items()}
        textures = labels[others] if name == EXCHANGED else None
        return ProbeCell(
            probe=name,
            images=len(images),
            right={source: share_of(found == labels) for source, found in predicted.items()},
            shape_bias=_shape_bias(predicted, labels, textures),
            rejected=share_of(side.judged.decisions.rejected),
        )

    def _made(self, pixels: UInt8Array, others: IntArray, name: str) -> UInt8Array:
        if name == CLEAN:
            return pixels
        if name == SILHOUETTES:
            return silhouettes(pixels)
        if name == EXCHANGED:
            return exchanged(pixels, pixels[others])
        return shuffled(pixels, int(name.split()[0]), self.seed)


def _labelled(held: Held) -> Held:
    """The known images that have a class, alone."""
    images = held.known.images
    index = np.flatnonzero(images.labels != UNLABELLED)
    return replace(held, known=replace(held.known, images=images.take(index)))


def _shape_bias(
    predicted: Mapping[str, IntArray | FloatArray], shapes: IntArray, textures: IntArray | None
) -> dict[str, Rate]:
    if textures is None:
        return {}
    found = {}
    for source, classes in predicted.items():
        by_shape, by_texture = classes == shapes, classes == textures
        found[source] = share_of(by_shape[by_shape | by_texture])
    return found


def _file(name: str) -> str:
    return name.replace(" ", "-")
