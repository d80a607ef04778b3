"""Which attacks are made, how strong, on how many images: the budgets ``quick`` and ``full``.

Gray and white boxes: the plain attacks know the classifier alone, the adaptive ones the gate too,
a query attack the answers only. Carlini and Wagner's has the grid of the seed paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from train.data import DataError

#: Kinds of attack, in the order of a report.
PLAIN, ADAPTIVE, QUERIES, TARGETED, STRANGERS = (
    "plain", "adaptive", "queries only", "Carlini-Wagner", "strangers to be let in",
)  # fmt: skip

#: How the name of a method ends that begins at an image of another class: the larger the ball, the
#: nearer it is to that image, so that success has to reach all.
FROM_ANOTHER = "from another class"

#: Pixels in [0, 1]: so many 8-bit levels.
LEVEL = 1 / 255

#: The grid of the seed paper: confidence kappa and weight d of the detector.
KAPPAS, DETECTIONS = (0.01, 1.0, math.inf), (0.0, 66.0, 1000.0)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One row of the report. ``eps`` in 8-bit levels for linf, in pixels of [0, 1] for l2; steps
    are those of one restart, queries of one image. Only Carlini-Wagner's have kappa and d.
    ``of``: which strangers, of those that are to be let in."""

    kind: str
    method: str
    norm: str
    eps: float
    steps: int
    restarts: int = 1
    kappa: float = math.nan
    detection: float = math.nan
    of: str = ""

    @property
    def name(self) -> str:
        """As a report and a file call it."""
        if self.kind == TARGETED:
            return f"{self.method} kappa {self.kappa:g} d {self.detection:g}"
        return f"{self.method} {self.norm} {self.eps:g}" + (f", {self.of}" if self.of else "")

    @property
    def from_another(self) -> bool:
        """Whether it begins at an image of another class instead of a random place."""
        return self.method.endswith(FROM_ANOTHER)

    @property
    def sees_gate(self) -> bool:
        """Whether a targeted attack minds S instead of the density."""
        return self.method == THROUGH_S

    @property
    def passes(self) -> int:
        """Forward passes of an image at most, nearly all with a backward pass."""
        searches = SEARCHES if self.kind == TARGETED else 1
        return self.steps * self.restarts * searches


#: The method of the targeted attack that wants to be let in, too.
THROUGH_S = "CW through S"

#: Weights c that Carlini-Wagner's search tries.
SEARCHES = 5


#: Attacks whose way is drawn where a budget has them, by name: of either colour of box one.
FOLLOWED = ("PGD linf 8", "selective PGD linf 8")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """``images`` of each attack, and the attacks."""

    name: str
    images: int
    attacks: tuple[Attack, ...]

    def for_strangers(self, names: Sequence[str]) -> Budget:
        """With the attacks on strangers made on each of ``names``."""
        spread = [
            replace(attack, of=name) if name else attack
            for attack in self.attacks
            for name in (names if attack.kind == STRANGERS else ("",))
        ]
        return replace(self, attacks=tuple(spread))

    @property
    def followed(self) -> tuple[Attack, ...]:
        """Those whose way is drawn."""
        return tuple(attack for attack in self.attacks if attack.name in FOLLOWED)


def budget(name: str) -> Budget:
    """``quick``: minutes on two cores; ``full``: hours. Raises ``DataError`` for another."""
    made = {"quick": _quick, "full": _full}.get(name)
    if made is None:
        raise DataError(f"--budget {name}: expected quick or full")
    return made()


def _quick() -> Budget:
    return Budget(
        name="quick",
        images=60,
        attacks=(
            *(_attack(PLAIN, "PGD", "linf", eps, 20) for eps in (2, 4, 8)),
            _attack(PLAIN, "APGD", "linf", 8, 30),
            _attack(PLAIN, "APGD", "l2", 0.5, 30),
            *(_attack(ADAPTIVE, "selective PGD", "linf", eps, 60, 2) for eps in (2, 4, 8, 32, 128)),
            *(_attack(ADAPTIVE, _ANOTHER, "linf", eps, 60) for eps in (8, 32, 128, 255)),
            _attack(ADAPTIVE, "orthogonal PGD", "linf", 8, 60),
            _attack(ADAPTIVE, "selective PGD", "l2", 0.5, 60, 2),
            _attack(QUERIES, "Square", "linf", 8, 150),
            *_grid(steps=40),
            *(_attack(STRANGERS, "PGD on the score", "linf", eps, 60) for eps in (8, 32)),
        ),
    )


def _full() -> Budget:
    return Budget(
        name="full",
        images=500,
        attacks=(
            *(_attack(PLAIN, "PGD", "linf", eps, 40, 5) for eps in (2, 4, 8)),
            _attack(PLAIN, "APGD", "linf", 8, 50, 5),
            _attack(PLAIN, "APGD", "l2", 0.5, 50, 5),
            *(_attack(ADAPTIVE, "selective PGD", "linf", eps, 60, 5) for eps in (2, 4, 8, 32, 128)),
            _attack(ADAPTIVE, "selective PGD, long", "linf", 2, 1000),
            *(_attack(ADAPTIVE, _ANOTHER, "linf", eps, 60, 5) for eps in (8, 32, 64, 128, 255)),
            _attack(ADAPTIVE, "orthogonal PGD", "linf", 8, 60, 5),
            _attack(ADAPTIVE, "selective PGD", "l2", 0.5, 60, 5),
            _attack(QUERIES, "Square", "linf", 8, 1000),
            *_grid(steps=40),
            *(_attack(STRANGERS, "PGD on the score", "linf", eps, 100) for eps in (8, 32)),
        ),
    )


_ANOTHER = f"selective PGD {FROM_ANOTHER}"


def _attack(kind: str, method: str, norm: str, eps: float, steps: int, restarts: int = 1) -> Attack:
    return Attack(kind=kind, method=method, norm=norm, eps=eps, steps=steps, restarts=restarts)


def _grid(steps: int) -> tuple[Attack, ...]:
    """The paper's, and one that knows the gate."""
    grid = (_targeted("CW", steps, kappa, d) for kappa in KAPPAS for d in DETECTIONS)
    return (*grid, _targeted(THROUGH_S, steps, kappa=1.0, detection=10.0))


def _targeted(method: str, steps: int, kappa: float, detection: float) -> Attack:
    return Attack(
        kind=TARGETED,
        method=method,
        norm="l2",
        eps=math.inf,
        steps=steps,
        kappa=kappa,
        detection=detection,
    )
