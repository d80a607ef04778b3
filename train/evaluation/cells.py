"""Measurements on their way: a suite's cells beside the report to be, each a whole file or none.

A command that was stopped finds them when it is given again; ``record`` says what they follow
from, and cells of anything else are refused. Nothing here is kept once the report is whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from model.checkpoint import write_atomic
from train.data import DataError

RECORD_FILE = "record.json"

Cell = TypeVar("Cell")


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of one suite, in ``folder``."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, record: Mapping[str, Any]) -> Cells:
        """Those of ``record``, plain JSON data, begun where there are none.

        Raises ``DataError`` where the folder holds cells of another record, naming what differs, or
        anything else, and where it cannot be written.
        """
        cells = cls(folder=folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / RECORD_FILE).exists() and not cells.names():
                write_atomic(folder / RECORD_FILE, _bytes(record))
        except OSError as error:
            raise DataError(
                f"{folder} cannot be written ({error.strerror}): choose another --out"
            ) from error
        found = cells._load(RECORD_FILE)
        wanted = json.loads(_bytes(record))
        differing = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        if differing:
            raise _other(folder, differing, wanted, found)
        return cells

    def names(self) -> list[str]:
        """Which cells there are."""
        return sorted(path.stem for path in self.folder.glob("*.json") if path.name != RECORD_FILE)

    def read(self, name: str) -> dict[str, Any] | None:
        """The content of a cell; None where it is still to be measured."""
        return self._load(f"{name}.json") if (self.folder / f"{name}.json").exists() else None

    def parsed(self, name: str, parse: Callable[[dict[str, Any]], Cell]) -> Cell | None:
        """The same by ``parse``, whose ``ValueError`` becomes a ``DataError`` naming the file."""
        content = self.read(name)
        try:
            return None if content is None else parse(content)
        except ValueError as error:
            raise DataError(f"{self.folder}/{name}.json: {error}: delete it") from error

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep a cell, in one step."""
        write_atomic(self.folder / f"{name}.json", _bytes(content))

    def _load(self, file: str) -> dict[str, Any]:
        path = self.folder / file
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise broken(path) from error
        if not isinstance(found, dict):
            raise broken(path)
        return found


def file_name(*words: str) -> str:
    """Of these words and of no others, whatever is in them."""
    readable = re.sub(r"[^a-zA-Z0-9.]+", "-", " ".join(words)).lstrip(".-")[:60]
    return f"{readable}-{_sum(json.dumps(words).encode())[:8]}"


def work_folder(out: Path) -> Path:
    """Where cells of the report ``out`` lie."""
    out = out.absolute()
    return out.with_name(f"{out.name}.part")


def forget(work: Path, suite: str) -> None:
    """Remove the cells of ``suite``, and ``work`` where nothing else is in it."""
    if (work / suite / RECORD_FILE).exists():
        shutil.rmtree(work / suite)
    if work.is_dir() and not any(work.iterdir()):
        work.rmdir()


def _bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _other(
    folder: Path, names: list[str], wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> DataError:
    listed = "; ".join(
        f"{name} there {_short(found.get(name))}, here {_short(wanted.get(name))}" for name in names
    )
    return DataError(
        f"{folder} holds what another evaluation has measured: {listed}: give the same command "
        f"again to go on with it, choose another --out, or delete {folder}"
    )


def broken(path: Path) -> DataError:
    """Of a file among the cells that holds nothing that was measured; of the record all follow."""
    what = path.parent if path.name == RECORD_FILE else path
    return DataError(
        f"{path} is not what an evaluation has measured: delete {what}, or choose another --out"
    )


def _short(value: Any, most: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def sum_of_sources(files: Iterable[Path]) -> str:
    """The SHA-256, shortened, of files whose code the cells follow from."""
    return _sum(b"\0".join(file.read_bytes() for file in files))


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
