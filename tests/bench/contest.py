"""Two networks, each as it was built and at its best, timed in pairs.

What is best is chosen in short rounds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tests.bench.pairs import Comparison, Pace, Step, compare, fastest, seconds_of
from tests.bench.ways import AS_BUILT, inference, layouts, serving, training
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
    """``theirs`` against ``ours`` on images ``x``; alike but in ``served``."""

    def __init__(self, title: str, theirs: Side, ours: Side, x: Tensor, pace: Pace) -> None:
        # all modules share the code that is compiled, and it may be compiled a few times only
        torch.compiler.reset()
        self._title, self._x, self._pace = title, x, pace
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

    def served(self, target: str, *, compiled: bool) -> Comparison:
        """Both as built and in inference mode; ours then as the service compiles it, too."""
        theirs, ours = self._sides
        step = serving(theirs.network, self._x, compiled=False)
        ways = [Way(f"{theirs.name}, eager, {AS_BUILT}", AS_BUILT, step)]
        for name, flag in (("by default", False), ("with --compile", True))[: 1 + compiled]:
            step = serving(ours.network, self._x, compiled=flag)
            ways.append(Way(f"{ours.name}, as served {name}", AS_BUILT, step))
        return self._pairs("as served, against eager as built", ways, target)

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
) -> Iterator[Comparison]:
    """A training step, theirs first, never compiled: as built, then best layout against best."""
    ways = {
        side: {layout: training(learner, config, x, labels, layout) for layout in layouts(learner)}
        for side, learner in learners.items()
    }
    best = {side: fastest(steps, pace) for side, steps in ways.items()}
    for kind, chosen in (
        ("as built", dict.fromkeys(ways, AS_BUILT)),
        ("best against best", best),
    ):
        yield compare(
            f"{title}, training step, {config.precision}, batch {len(x)}: eager, {kind}",
            {f"{side}, eager, {chosen[side]}": ways[side][chosen[side]] for side in ways},
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
