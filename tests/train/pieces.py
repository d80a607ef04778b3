"""Data sets for tests of chunks: their files, and a store that is not on this machine."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from PIL import Image

from train import places
from train.chunks import chunks_of
from train.data import ImageRows, Row


def png(value: int) -> bytes:
    """3 x 3 of one grey."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 3), value % 256, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def images(first: int, count: int, paths: Sequence[str | None] | None = None) -> pa.Table:
    """A table of consecutive greys in two classes."""
    names = paths or [f"{first + i}.png" for i in range(count)]
    rows = [{"bytes": png(first + i), "path": names[i]} for i in range(count)]
    return pa.table({"image": rows, "label": [(first + i) % 2 for i in range(count)]})


def write(path: Path, table: pa.Table, group: int = 4, **options: Any) -> Path:
    """Parquet in row groups of ``group``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group, **options)
    return path


def sent(rows: ImageRows) -> list[list[Row]]:
    """Rows of each chunk, read from what another process would be sent."""
    return [list(pickle.loads(pickle.dumps(chunk)).read()) for chunk in chunks_of(rows)]


def flat(chunks: Sequence[Sequence[Row]]) -> list[Row]:
    """All rows."""
    return [row for chunk in chunks for row in chunk]


def store(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[float]:
    """URLs ``store://NAME`` lead to ``root/NAME`` as if far away; the waits are recorded."""
    far = pafs.SubTreeFileSystem(str(root), pafs.LocalFileSystem())
    waits: list[float] = []

    def located(location: str) -> tuple[pafs.FileSystem, str]:
        scheme, _, path = location.partition("://")
        return (far, path) if scheme == "store" else (pafs.LocalFileSystem(), location)

    monkeypatch.setattr(places, "_located", located)
    monkeypatch.setattr(places, "pause", waits.append)
    return waits
