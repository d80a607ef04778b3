"""Recipes: an architecture and training settings by name, with the figures to expect.

A recipe says what its command is expected to give, so that a run can be held against it; the
measurements behind the figures are in ``train/LOG.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from model.config import FlowConfig, Means, StageConfig
from train.config import Precision, TrainConfig

#: The recipe that ``train.auto`` makes for the data.
AUTO = "auto"


class RecipeError(ValueError):
    """A recipe that does not exist, or cannot be had for what was asked."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Architecture and training defaults; ``expected`` is one line for a reader."""

    name: str
    input_shape: tuple[int, int, int]
    stages: tuple[StageConfig, ...]
    levels: int = 256
    beta: float = 1.0
    mu_init: float = 5.0
    dropout: float = 0.0
    epochs: int
    batch_size: int
    learning_rate: float = 1e-3
    label_smoothing: float = 0.0
    means: Means = "full"
    means_rank: int = 128
    flip: bool = False
    shift: int = 0
    ema: float = 0.0
    precision: Precision = "float32"
    expected: str

    def flow_config(self, n_classes: int, seed: int) -> FlowConfig:
        """The architecture for ``n_classes`` classes; ``RecipeError`` where they are too many."""
        try:
            return FlowConfig(
                input_shape=self.input_shape,
                n_classes=n_classes,
                stages=self.stages,
                levels=self.levels,
                mu_init=self.mu_init,
                dropout=self.dropout,
                means=self.means,
                means_rank=self.means_rank,
                seed=seed,
            )
        except ValueError as error:
            raise RecipeError(
                f"recipe {self.name!r} for {n_classes} classes: {error}; choose data of fewer "
                "classes or a recipe of larger images, such as auto with --size"
            ) from error

    def train_config(self, *, data: str) -> TrainConfig:
        """The training settings, before what a user changes."""
        return TrainConfig(
            recipe=self.name,
            data=data,
            beta=self.beta,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            label_smoothing=self.label_smoothing,
            flip=self.flip,
            shift=self.shift,
            ema=self.ema,
            precision=self.precision,
        )


#: What the recipes for 8-bit images share that were sized for two CPU cores.
_TWO_CORES = partial(
    Recipe, batch_size=128, learning_rate=2e-3, flip=True, ema=0.998, precision="bf16"
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="digits",
            input_shape=(1, 8, 8),
            levels=17,
            stages=(
                StageConfig(downsample="haar", blocks=6, width=48),
                StageConfig(downsample="haar", blocks=6, width=48),
            ),
            beta=0.2,
            dropout=0.2,
            epochs=60,
            batch_size=64,
            learning_rate=3e-3,
            expected="test accuracy 97.5%, about a minute on one CPU core",
        ),
        _TWO_CORES(
            name="fashion-mnist-small",
            input_shape=(1, 28, 28),
            stages=(
                StageConfig(downsample="haar", blocks=4, width=32),
                StageConfig(downsample="haar", blocks=8, width=64),
            ),
            dropout=0.1,
            epochs=6,
            shift=1,
            expected="for sweeps: test accuracy 89.2%, 4.25 bits/dim, ten minutes on one CPU core",
        ),
        _TWO_CORES(
            name="fashion-mnist",
            input_shape=(1, 28, 28),
            stages=(
                StageConfig(downsample="haar", blocks=4, width=32),
                StageConfig(downsample="haar", blocks=8, width=128),
            ),
            dropout=0.05,
            epochs=24,
            shift=1,
            expected="held-out accuracy 92.6%, 3.76 bits/dim, an hour and a half on one CPU core",
        ),
        _TWO_CORES(
            name="cifar10",
            input_shape=(3, 32, 32),
            stages=(
                StageConfig(downsample="haar", blocks=4, width=32),
                StageConfig(downsample="haar", blocks=8, width=128),
                StageConfig(downsample="haar", blocks=4, width=64),
            ),
            epochs=16,
            shift=4,
            expected="held-out accuracy 73.8%, 4.36 bits/dim, two hours on one CPU core",
        ),
        Recipe(
            name="imagenet",
            input_shape=(3, 224, 224),
            stages=(
                StageConfig(downsample="coupling", subnet="entry", blocks=0, width=64),
                StageConfig(downsample="haar", subnet="pointwise", blocks=1, width=48),
                StageConfig(subnet="bottleneck", blocks=3, width=64),
                StageConfig(downsample="coupling", subnet="bottleneck", blocks=3, width=128),
                StageConfig(downsample="coupling", subnet="bottleneck", blocks=5, width=256),
                StageConfig(downsample="coupling", subnet="bottleneck", blocks=2, width=512),
            ),
            means="low-rank",
            mu_init=3.5,
            epochs=100,
            batch_size=128,
            learning_rate=1e-3,
            label_smoothing=0.05,
            flip=True,
            ema=0.9998,
            precision="bf16",
            expected="untrained here: the architecture of the paper's Table 1, for many GPU hours",
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; raises ``RecipeError`` listing those there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise RecipeError(
            f"recipe {name!r}: expected one of {', '.join((*RECIPES, AUTO))}"
        ) from None
