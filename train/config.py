"""How a model is trained, as plain data: frozen, saved in ``run.json``, enough to repeat it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from model.config import expect_integer, expect_number

#: The largest of the 8-bit levels.
WHITE = 255

#: Steps of an attack on each batch; more would be a slip of the hand.
MOST_STEPS = 100

Kind = Literal["flow", "resnet"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the result, beside the data and the architecture.

    ``beta`` weighs the class loss in (L_X + beta L_Y) / (1 + beta): 0 is a plain flow, ``inf`` a
    feed-forward classifier. L_X is per dimension and L_Y is not, so beta compares only between
    models of one size: beta * D is what compares across sizes. ``fit_rows`` and ``cal_rows`` are
    held out for calibration, and of the others only ``rows`` are trained on, or all. ``threads`` of
    the CPU belong here because sums, and so the last bits of the weights, depend on them.

    ``size``: pixels a side, of recipe ``auto``. ``kind``: ``resnet`` trains the baseline that a
    flow is held against, alike in all else. ``flip`` and ``shift`` (pixels) augment. ``ema``: decay
    of the running average of weights that is kept at the end, 0 for the last weights.
    ``precision`` is that of the networks inside couplings; log-determinants and the class head
    stay in float32. ``dropout``: the chance of a hidden channel inside couplings to be dropped in
    training, in place of the recipe's. ``recompute`` trades half as much time again for
    activation memory that does not grow with depth. ``init``: a bundle or checkpoint to begin with.
    ``leave_out``: class names; the run is as if the data had no such classes.
    ``adversarial_eps``: half of each batch is moved by up to so many 8-bit levels, in
    ``adversarial_steps``, against its class (``train.adversarial``); 0 for none.
    """

    recipe: str
    data: str
    size: int | None = None
    kind: Kind = "flow"
    init: str | None = None
    beta: float = 1.0
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.1
    weight_decay: float = 1e-4
    grad_clip: float = 8.0
    label_smoothing: float = 0.0
    dropout: float | None = None
    flip: bool = False
    shift: int = 0
    ema: float = 0.0
    precision: Precision = "float32"
    compile: bool = False
    recompute: bool = False
    workers: int = 1
    seed: int = 0
    rows: int | None = None
    fit_rows: int = 5000
    cal_rows: int = 5000
    threads: int = 1
    leave_out: tuple[str, ...] = ()
    adversarial_eps: float = 0.0
    adversarial_steps: int = 5

    def __post_init__(self) -> None:
        """Refuse values that cannot train, naming them."""
        self._expect_types()
        if math.isnan(self.beta) or self.beta < 0:
            raise ValueError(f"beta {self.beta}: expected a number from 0 to inf")
        for name in (
            *("epochs", "batch_size", "fit_rows", "cal_rows", "threads", "workers"),
            "adversarial_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows {self.rows}: expected at least 1, or none for all")
        if self.kind == "resnet" and self.init is not None:
            raise ValueError(
                "init with kind resnet: expected a flow; leave out --init or --baseline"
            )
        if self.compile and self.recompute:
            raise ValueError("compile and recompute: expected one of them; they do not combine")
        for name in ("seed", "shift"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 or more")
        if not 0 <= self.adversarial_eps <= WHITE:
            raise ValueError(
                f"adversarial_eps {self.adversarial_eps}: expected 0 (none) to {WHITE} 8-bit levels"
            )
        if self.adversarial_steps > MOST_STEPS:
            raise ValueError(
                f"adversarial_steps {self.adversarial_steps}: expected {MOST_STEPS} at most, each "
                "of which costs a pass forward and back"
            )
        if self.adversarial_eps and self.batch_size < 2:
            raise ValueError(
                f"adversarial_eps with batch_size {self.batch_size}: half of a batch is moved, "
                "which is none of it; expected a batch_size of 2 or more"
            )
        if self.adversarial_eps and self.beta == 0:
            raise ValueError(
                "adversarial_eps with beta 0: attacked images count in the class loss alone, which "
                "then has no weight; expected a beta above 0"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema {self.ema}: expected 0 (none) to below 1")
        for name, kinds in (("kind", Kind), ("precision", Precision)):
            if getattr(self, name) not in get_args(kinds):
                found, expected = getattr(self, name), ", ".join(get_args(kinds))
                raise ValueError(f"{name} {found!r}: expected one of {expected}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: expected 0 to below 1, or none")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate {self.learning_rate}: expected a positive number")

    def _expect_types(self) -> None:
        """Refuse what only a damaged file holds, such as a word for a number."""
        for field in fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            if value is None and kind.endswith("| None"):
                continue
            kind = kind.removesuffix(" | None")
            if kind == "int":
                expect_integer(field.name, value)
            elif kind == "float":
                expect_number(field.name, value)
            elif field.name == "leave_out":
                _expect_names(field.name, value)
            elif not isinstance(value, bool if kind == "bool" else str):
                raise ValueError(f"{field.name} {value!r}: expected {kind}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; an infinite beta, which JSON has no number for, becomes "inf"."""
        data = asdict(self)
        beta = "inf" if math.isinf(self.beta) else self.beta
        return {**data, "beta": beta, "leave_out": list(self.leave_out)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """The inverse of ``to_dict``; raises ``ValueError`` naming what does not fit."""
        left_out = data.get("leave_out", [])  # earlier versions could leave none out
        names = tuple(left_out) if isinstance(left_out, list) else left_out
        try:
            return cls(**{**data, "beta": float(data["beta"]), "leave_out": names})
        except KeyError as error:
            raise ValueError(f"the settings lack {error}") from error
        except TypeError as error:
            raise ValueError(f"not settings this version knows: {error}") from error


def _expect_names(field: str, value: object) -> None:
    """Refuse what is not a tuple of names, each of them once."""
    names = value if isinstance(value, tuple) else (None,)
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{field} {value!r}: expected names of classes, none of them empty")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{field} {twice[:5]}: expected each class once")
