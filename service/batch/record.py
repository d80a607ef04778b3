"""``_job.json`` in OUT: what is scored with what, how far the job is, and what came of it.

One OUT holds the verdicts of one model on one input with one set of options; a job that finds
another's is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from service.batch.folder import Folder
from service.batch.job_error import JobError
from service.scorer import Scorer

FILE = "_job.json"
SCHEMA_VERSION = 1

#: What a job is doing, or has done.
SCORING, DECIDING, FINISHED = "scoring", "deciding", "finished"


@dataclass(frozen=True, kw_only=True)
class Record:
    """The file. ``inputs``, ``model`` and ``options`` say what job it is; ``sittings``:
    processes that worked on it; ``seconds`` theirs, of one that was killed those up to its last
    part."""

    inputs: dict[str, Any]
    model: dict[str, Any]
    options: dict[str, Any]
    state: str = SCORING
    started: str = field(default_factory=lambda: _now())
    finished: str | None = None
    seconds: float = 0.0
    sittings: int = 1
    counts: dict[str, int] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def write(self, folder: Folder) -> None:
        """Write or replace it in OUT."""
        folder.write(FILE, (json.dumps(asdict(self), indent=2) + "\n").encode())

    def again(self) -> Record:
        """Of a job that somebody goes on with."""
        return replace(self, sittings=self.sittings + 1)

    def ended(self, counts: dict[str, int]) -> Record:
        """Of a job whose last row is written."""
        return replace(self, state=FINISHED, finished=_now(), counts=counts)


def find_record(folder: Folder, asked: Record) -> Record | None:
    """What OUT has of the job that ``asked`` describes; None where it is empty.

    Raises ``JobError`` where OUT holds something else.
    """
    content = folder.read(FILE)
    if content is None:
        strange = [name for name in folder.names() if not name.startswith("_")]
        if strange:
            raise JobError(
                f"{folder.shown} is not an empty folder (it has {strange[0]}): a table is never "
                "mixed; choose another --out"
            )
        return None
    found = _parsed(folder, content)
    for name in ("inputs", "model", "options"):
        _check_same(folder, name, getattr(found, name), getattr(asked, name))
    return found


def model_facts(scorer: Scorer) -> dict[str, Any]:
    """Which model: a bundle by its version, a bare checkpoint by its content."""
    facts: dict[str, Any] = {"name": scorer.name, "version": scorer.version}
    if scorer.version is None:
        digest = hashlib.sha256()
        for path in sorted((scorer.folder / "model").iterdir()):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        facts["sha256"] = digest.hexdigest()
    return facts


def _parsed(folder: Folder, content: bytes) -> Record:
    try:
        found = json.loads(content)
        if found["schema_version"] == SCHEMA_VERSION:
            return Record(**found)
    except (ValueError, TypeError, KeyError):
        pass
    raise JobError(
        f"{folder.shown}/{FILE} is not readable as version {SCHEMA_VERSION} of it: score into "
        "another --out"
    )


def _check_same(folder: Folder, part: str, found: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in sorted({*found, *asked}):
        old, new = found.get(name), asked.get(name)
        if old != new:
            raise JobError(
                f"{folder.shown} holds a job with {part} {name} {old!r}, now it is {new!r}: a "
                "table is never mixed; give the same command to go on, or choose another --out"
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
