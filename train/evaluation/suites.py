"""What a report may be made of, by name: suites measure beside strangers and calibration.

``ood`` and ``calibration`` are of ``train.evaluation.measure``. Another suite is a class with the
three names of ``Suite``, and an entry in ``SUITES``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from train.data import DataError
from train.evaluation.attack_plan import Budget
from train.evaluation.attack_suite import AttackSuite
from train.evaluation.cells import Cells, forget, work_folder
from train.evaluation.corruption_suite import CorruptionSuite
from train.evaluation.measure import CALIBRATION, OOD, Baseline, Held
from train.evaluation.part import Part
from train.evaluation.probe_suite import ProbeSuite
from train.evaluation.sets import StrangeRows


class Suite(Protocol):
    """Something that measures in cells and has a part of the report."""

    @property
    def name(self) -> str:
        """What the user asks for it by, and its key in evaluation.json."""
        ...

    def record(self, held: Held) -> dict[str, Any]:
        """Plain data that its cells follow from, beside ``conditions``.

        Raises ``DataError`` for what it cannot measure.
        """
        ...

    def measure(self, held: Held, cells: Cells) -> Part:
        """Measure, showing how far it is, what is not yet among ``cells``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What suites may need beside the model: how much attacks may take, and sets of strangers."""

    budget: Budget
    strangers: tuple[StrangeRows, ...] = ()


#: By name, made when asked for.
SUITES: Mapping[str, Callable[[Asked], Suite]] = {
    "corruptions": lambda _: CorruptionSuite(),
    "attacks": lambda asked: AttackSuite(budget=asked.budget, strangers=asked.strangers),
    "probes": lambda _: ProbeSuite(),
}


def chosen(text: str) -> tuple[str, ...]:
    """``"ood,corruptions"`` to names without repetition; raises ``DataError`` for another."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    known = (OOD, CALIBRATION, *SUITES)
    for name in names:
        if name not in known:
            raise DataError(
                f"--suite {name!r}: expected one or more of {', '.join(known)}, between commas"
            )
    return names


def run_suites(names: Sequence[str], held: Held, out: Path, asked: Asked) -> tuple[Part, ...]:
    """The parts of the report ``out``; each is begun only when all can be gone on with."""
    suites = [SUITES[name](asked) for name in names if name in SUITES]
    common = conditions(held) if suites else {}
    records = [common | suite.record(held) for suite in suites]
    opened = [
        Cells.open(work_folder(out) / suite.name, record)
        for suite, record in zip(suites, records, strict=True)
    ]
    return tuple(suite.measure(held, cells) for suite, cells in zip(suites, opened, strict=True))


def forget_cells(names: Sequence[str], out: Path) -> None:
    """Remove what suites have kept on the way to the report ``out``, which is whole."""
    for name in names:
        if name in SUITES:
            forget(work_folder(out), name)


def conditions(held: Held) -> dict[str, Any]:
    """What every cell follows from: the model, the rows, the baselines, what they run on."""
    images, classifier = held.known.images, held.model.checkpoint.classifier
    return {
        "bundle": f"{held.model.name} {held.model.version}",
        "data": held.source.spec,
        "limit": held.limit,
        "rows": len(images),
        "sum of the rows": _sum(images.digests.tobytes(), images.labels.tobytes()),
        "baselines": {baseline.name: _weights_sum(baseline) for baseline in held.baselines},
        "device": classifier.device.type,
        "torch": torch.__version__,
    }


def _weights_sum(baseline: Baseline) -> str:
    state = baseline.classifier.state_dict()
    return _sum(*(state[name].cpu().numpy().tobytes() for name in sorted(state)))


def _sum(*parts: bytes) -> str:
    """SHA-256, shortened: it tells files apart, and protects from nobody."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]
