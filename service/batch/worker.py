"""What an actor of a batch job is: the model, sent to it by the driver, and batches through it.

The files of a bundle travel with the job, so a cluster needs no folder that its machines share.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from service.batch.reading import CONTENT, from_bytes, to_bytes
from service.scorer import Scorer, open_scorer

#: The files of a bundle or a run that a scorer reads: path within the folder, content.
Packed = dict[str, bytes]


def packed(scorer: Scorer) -> tuple[str, Packed]:
    """The scorer's folder: its name and its files; of a bare checkpoint those of the model."""
    root = scorer.folder
    top = root if scorer.predictor is not None else root / "model"
    files = sorted(path for path in top.rglob("*") if path.is_file())
    return scorer.name, {str(path.relative_to(root)): path.read_bytes() for path in files}


def unpacked(model: tuple[str, Packed], parent: Path) -> Path:
    """The folder again, within ``parent``."""
    name, files = model
    folder = parent / name
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


class Worker:
    """Scores batches that come as rows (chunk, row, content) and go the same way."""

    def __init__(
        self, model: Any, schema: pa.Schema, alpha: float | None, statistics: bool
    ) -> None:
        import ray
        import torch

        torch.set_num_threads(1)  # an actor a core: together they answer more than threads do
        with tempfile.TemporaryDirectory(prefix="ood-") as parent:
            folder = unpacked(ray.get(model), Path(parent))
            self._scorer = open_scorer(str(folder), None, alpha, statistics)
        self._schema = schema

    def __call__(self, rows: pa.Table) -> pa.Table:
        """One batch, or several one after the other."""
        contents = [self._scored(row.as_py()) for row in rows.column(CONTENT)]
        place = rows.schema.get_field_index(CONTENT)
        return rows.set_column(place, CONTENT, pa.array(contents, pa.large_binary()))

    def _scored(self, content: bytes) -> bytes:
        (batch,) = from_bytes(content).to_batches()
        return to_bytes(self._scorer(batch, self._schema))
