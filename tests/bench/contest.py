"""Two networks, each at its best: chosen in short rounds of its own, then timed in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tests.bench.pairs import Comparison, Pace, Step, compare, fastest, seconds_of
from tests.bench.ways import inference, layouts, serving, training
from train.config import TrainConfig
from train.learner import Learner


@dataclass(frozen=True, kw_only=True)
class Side:
    """A network by the name of who made it."""

    name: str
    network: nn.Module


class Way(NamedTuple):
    """A treatment that was found fastest; ``layout`` is the memory layout in it."""

    name: str
    layout: str
    step: Step


class InferenceContest:
    """``theirs`` against ``ours`` on images ``x``; both get the same treatments.

    ``baseline`` has theirs at its best without the compiler.
    """

    def __init__(self, title: str, theirs: Side, ours: Side, x: Tensor, pace: Pace) -> None:
        # all modules share the code that is compiled, and it may be compiled a few times only
        torch.compiler.reset()
        self._title, self._x, self._pace = title, x, pace
        self._ours = ours
        self._sides = (theirs, ours)
        self._eager = [self._best_layout(side) for side in self._sides]

    def eager(self, target: str) -> Comparison:
        """Best against best without the compiler."""
        return self._pairs("eager, best against best", self._eager, target)

    def compiled(self, target: str, options: Mapping[str, Mapping[str, bool]]) -> Comparison:
        """Best against best where both may be compiled, or not."""
        best, failures = [], []
        for side, eager in zip(self._sides, self._eager, strict=True):
            ways = {eager.name: eager.step}
            for kind, chosen in options.items():
                step = inference(side.network, self._x, eager.layout, chosen)
                name = f"{side.name}, {kind}, {eager.layout}"
                failure = _failure(step)
                failures += [f"{name}: {failure}"] if failure else []
                ways |= {} if failure else {name: step}
            name = fastest(ways, self._pace)
            best.append(Way(name, eager.layout, ways[name]))
        return self._pairs("compiler allowed, best against best", best, target, "; ".join(failures))

    def served(self, *, compiled: bool) -> Comparison:
        """Ours as the service runs it against theirs eager, with and without ``--compile``."""
        ways = [self._eager[0]]
        for name, flag in (("by default", False), ("with --compile", True))[: 1 + compiled]:
            step = serving(self._ours.network, self._x, compiled=flag)
            ways.append(Way(f"{self._ours.name}, as served {name}", "", step))
        return self._pairs("as served, against eager", ways)

    def _best_layout(self, side: Side) -> Way:
        names = {f"{side.name}, eager, {layout}": layout for layout in layouts(side.network)}
        ways = {name: inference(side.network, self._x, layout) for name, layout in names.items()}
        name = fastest(ways, self._pace)
        return Way(name, names[name], ways[name])

    def _pairs(self, kind: str, ways: list[Way], target: str = "", note: str = "") -> Comparison:
        return compare(
            f"{self._title}, inference, batch {len(self._x)}: {kind}",
            {way.name: way.step for way in ways},
            images=len(self._x),
            pace=self._pace,
            target=target,
            note=note,
        )


def training_contest(
    title: str,
    learners: Mapping[str, Learner],
    config: TrainConfig,
    x: Tensor,
    labels: Tensor,
    pace: Pace,
    target: str,
) -> Comparison:
    """Best layout against best layout in a training step, theirs first; never compiled."""
    best = {}
    for side, learner in learners.items():
        ways = {
            f"{side}, eager, {layout}": training(learner, config, x, labels, layout)
            for layout in layouts(learner)
        }
        name = fastest(ways, pace)
        best[name] = ways[name]
    return compare(
        f"{title}, training step, {config.precision}, batch {len(x)}: eager, best against best",
        best,
        images=len(x),
        pace=pace,
        target=target,
    )


def _failure(step: Step) -> str:
    """The error of the first run, if there is one: a compiler may fail in any way."""
    try:
        seconds_of(step)
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ""
