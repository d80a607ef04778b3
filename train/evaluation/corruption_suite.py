"""The suite ``corruptions``: 15 corruptions at 5 severities of the known images.

Cells are kept one by one, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from train import corruptions
from train.corruptions.parameters import SEVERITIES
from train.data import DataError
from train.evaluation import corruptions as the_fifteen
from train.evaluation.cells import Cells, sum_of_sources
from train.evaluation.corruption_cells import (
    CLEAN,
    STORED,
    Cell,
    cell_of,
    corrupted,
    measure_cell,
)
from train.evaluation.corruption_story import part_of
from train.evaluation.corruption_summary import summed_up
from train.evaluation.corruptions import CORRUPTIONS
from train.evaluation.measure import Held
from train.evaluation.part import Part
from train.evaluation.sharing_threads import sharing_threads
from train.images import UNLABELLED
from train.progress import Progress
from train.storage import Storage

#: Draws the noise, snow and frost of all images.
SEED = 0

#: Cells that are measured at once at most, and bytes of all their images.
AT_ONCE, MOST_BYTES = 4, 2**30


@dataclass(frozen=True, kw_only=True)
class CorruptionSuite:
    """Which corruptions, how strong; ``seed`` and an image's number are all the chance there is."""

    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    severities: tuple[int, ...] = SEVERITIES
    seed: int = SEED
    name: ClassVar[str] = "corruptions"

    def record(self, held: Held) -> dict[str, Any]:
        """What its cells follow from beside the model and its rows.

        Raises ``DataError`` for known images of which some have no class.
        """
        unlabelled = int((held.known.images.labels == UNLABELLED).sum())
        if unlabelled:
            raise DataError(
                f"--suite {self.name}: {unlabelled:,} of the {len(held.known.images):,} rows of "
                f"{held.source.spec} have no label, expected all to have one: give rows with labels"
            )
        return {
            "corruptions": list(self.corruptions),
            "severities": list(self.severities),
            "seed": self.seed,
            "storage": Storage.of(held.source).note,
            "code of the corruptions": code_sum(),
        }

    def measure(self, held: Held, cells: Cells) -> Part:
        """Every cell that is not yet there, and what all come to."""
        storage = Storage.of(held.source)
        clean = cell_of(held, CLEAN, 0, held.known.judged, held.logits)
        found = {(cell.corruption, cell.severity): cell for cell in self._all(held, storage, cells)}
        control = found.pop((STORED, 0), None)
        summary = summed_up(held, tuple(found.values()), clean, control, storage.note, self.seed)
        return part_of(summary, held, storage)

    def _all(self, held: Held, storage: Storage, cells: Cells) -> Iterator[Cell]:
        plan = [(name, severity) for name in self.corruptions for severity in self.severities]
        if storage.encoding is not None:
            plan.insert(0, (STORED, 0))
        there = {key: cells.parsed(_file(*key), Cell.from_json) for key in plan}
        count = len(held.known.images)
        done = count * sum(cell is not None for cell in there.values())
        missing = [key for key, cell in there.items() if cell is None]
        with (
            Progress(self.name, count * len(plan), initial=done) as progress,
            sharing_threads(_at_once(held)) as pool,
        ):
            made = pool.map(lambda key: self._made(held, storage, cells, *key), missing)
            for (name, severity), kept in there.items():
                yield kept or next(made)
                if kept is None:
                    progress.advance(count, last=f"{name} {severity}")

    def _made(self, held: Held, storage: Storage, cells: Cells, name: str, severity: int) -> Cell:
        cell = measure_cell(
            held, name, severity, corrupted(held, storage, name, severity, self.seed)
        )
        cells.write(_file(name, severity), cell.to_json())
        return cell


def code_sum() -> str:
    """The SHA-256, shortened, of the files that say what a corruption is."""
    folder = Path(str(corruptions.__file__)).parent
    files = [*sorted(folder.glob("*.py")), Path(str(the_fifteen.__file__))]
    return sum_of_sources(files)


def _at_once(held: Held) -> int:
    """Cells that are measured at once: several where the CPU computes, as far as memory allows,
    since small convolutions gain little from a second thread."""
    if held.model.checkpoint.classifier.device.type != "cpu":
        return 1
    of_a_cell = 2 * max(held.known.images.pixels.nbytes, 1)  # in parts, and put together
    return max(1, min(torch.get_num_threads(), AT_ONCE, MOST_BYTES // of_a_cell))


def _file(name: str, severity: int) -> str:
    return f"{name.replace(' ', '-')}-{severity}"
