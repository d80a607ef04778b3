"""The published CIFAR-10 network and ours, trained for the same seconds on this machine.

``python -m tests.bench.published_cifar --data DATA --seconds 600`` trains the network of Ardizzone
et al. (NeurIPS 2020), built with FrEIA, and that of recipe ``cifar10`` in turns, and writes
accuracy on held-out rows of DATA, seconds, steps and images/s of both into
``build/bench/model.json``. DATA are the training rows; the test split is not looked at.

Alike: all settings of our recipe (AdamW, weight decay on kernels, clipping, schedule, average of
weights, batches, flips and shifts, precision inside couplings), so none of the published SGD,
colour jitter and rotations, which are for 450 epochs; ``--published-learning-rate`` gives that
network its own. Different: the architecture, with its own dropout and BatchNorm, and the cures that
``tests.bench.freia_nets`` names.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from model.classifier import GenerativeClassifier
from model.image import InputSpec
from model.scoring import default_device
from tests.bench.race import LEVELS, Race, Racer, race
from tests.bench.record import DEFAULT_PATH, Record, setting
from train.batches import Batches
from train.config import TrainConfig
from train.data import DataError
from train.learner import FlowLearner
from train.recipes import find_recipe
from train.run import load_training_set

#: Entries of the record; the recipe's precision has the plain name.
ENTRIES = {"bf16": "published_cifar", "float32": "published_cifar, float32"}


def published_race(config: TrainConfig, learning_rate: float, seconds: float) -> Race:
    """Ours by ``config``, the published network likewise but for its ``learning_rate``."""
    from tests.bench.freia_nets import FreiaLearner, published_cifar

    recipe, device = find_recipe(config.recipe), default_device()
    rows = load_training_set(config, InputSpec(shape=recipe.input_shape, levels=LEVELS))
    batches = Batches(config, rows.images, LEVELS, device)
    n_classes = len(rows.class_labels)
    theirs = FreiaLearner(published_cifar(n_classes, config.precision).to(device), config)
    flow = recipe.flow_config(n_classes, config.seed)
    ours = FlowLearner(GenerativeClassifier(flow).to(device), config)
    racer = partial(Racer, batches=batches, seconds=seconds)
    return race(
        f"recipe {recipe.name} and the published network, {seconds:g} s each, {config.precision}",
        (
            racer("published", theirs, replace(config, learning_rate=learning_rate)),
            racer("ours", ours, config),
        ),
        rows.fit_images,
        rows=len(rows.images),
    )


def main() -> None:
    recipe = find_recipe("cifar10")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="training rows, such as .../train.parquet")
    parser.add_argument("--seconds", type=float, default=600, help="of training, each network")
    parser.add_argument("--precision", choices=ENTRIES, default=recipe.precision)
    parser.add_argument("--published-learning-rate", type=float, default=recipe.learning_rate)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a trial whose figures mean nothing")
    parser.add_argument("--out", type=Path, default=DEFAULT_PATH)
    args = parser.parse_args()
    if not args.seconds > 0:
        parser.error(f"--seconds {args.seconds}: expected a positive number")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # FrEIA draws its rotations from it
    config = replace(
        recipe.train_config(data=args.data),
        precision=args.precision,
        threads=args.threads,
        seed=args.seed,
        batch_size=16 if args.quick else recipe.batch_size,
    )
    surroundings = {**setting(quick=args.quick, seed=args.seed), "config": config.to_dict()}
    record = Record(args.out)  # refused now rather than after the training
    try:
        found = published_race(config, args.published_learning_rate, args.seconds)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
    record.measure(ENTRIES[args.precision], surroundings, [found])


if __name__ == "__main__":
    main()
