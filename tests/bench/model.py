"""What the network costs: ``python -m tests.bench.model [--quick] [--rows ...]``.

Images a second of our network against the same one built with FrEIA, of our CIFAR-10 recipe
against the published network, of the ImageNet configuration against ResNet-50, and the activation
memory that training needs. Ratios are of interleaved rounds of one process, with their range;
nothing is asserted. Results are kept in ``build/bench/model.json`` as they come. ``--quick`` tries
every row in short rounds without the compiler: its figures mean nothing. What training gives in a
stated time is in ``tests.bench.published_cifar``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchvision.models import resnet50

from model.classifier import GenerativeClassifier
from model.scoring import default_device
from tests.bench import memory
from tests.bench.contest import InferenceContest, Side, training_contest
from tests.bench.pairs import Comparison, Pace
from tests.bench.record import DEFAULT_PATH, Record, Result, setting
from tests.bench.ways import COMPILED
from train.config import Precision
from train.learner import FlowLearner
from train.recipes import Recipe, find_recipe

if TYPE_CHECKING:
    from tests.bench.freia_nets import FreiaClassifier

QUICK_BATCH = 8
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to measure, and where; ``quick`` leaves out the compiler and large batches."""

    quick: bool
    pace: Pace
    seed: int
    device: torch.device

    def images(self, batch: int, shape: tuple[int, int, int]) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        batch = min(batch, QUICK_BATCH) if self.quick else batch
        return torch.rand(batch, *shape, generator=generator).to(self.device)


def fashion_mnist(plan: Plan) -> Iterator[Comparison]:
    """Our network against the same one built with FrEIA."""
    from tests.bench.freia_nets import same_network, subnet_parameters

    recipe = find_recipe("fashion-mnist")
    config = recipe.flow_config(10, plan.seed)
    theirs = Side(name="FrEIA", network=same_network(config).to(plan.device))
    ours = Side(name="ours", network=GenerativeClassifier(config).to(plan.device))
    counts = [subnet_parameters(side.network) for side in (theirs, ours)]
    if counts[0] != counts[1]:
        raise SystemExit(f"not the same network: {counts} parameters in subnets, FrEIA's and ours")
    title = f"{recipe.name}, {counts[0]} parameters in the subnets of each"
    for batch, target in ((64, "target 1.3, aim 2"), (1, "target 1.7, aim 3")):
        x = plan.images(batch, config.input_shape)
        contest = InferenceContest(title, theirs, ours, x, plan.pace)
        yield contest.eager(target)
        if not plan.quick:
            yield contest.compiled(target, COMPILED)
        yield contest.served(target, compiled=not plan.quick)
    for precision in PRECISIONS:
        network = same_network(config, precision)
        yield from _training(
            plan, title, recipe, theirs.name, network, precision, "target 1.1, aim 1.5"
        )


def cifar10(plan: Plan) -> Iterator[Comparison]:
    """Our recipe against the published network, which is another architecture."""
    from tests.bench.freia_nets import published_cifar

    recipe = find_recipe("cifar10")
    config = recipe.flow_config(10, plan.seed)
    theirs = Side(name="published", network=published_cifar().to(plan.device))
    ours = Side(name="ours", network=GenerativeClassifier(config).to(plan.device))
    title = f"{recipe.name}, against the published network"
    target = "target 2, aim 5, at equal accuracy: see published_cifar"
    contest = InferenceContest(title, theirs, ours, plan.images(64, config.input_shape), plan.pace)
    yield contest.eager(target)
    if not plan.quick:
        yield contest.compiled(target, {"compiled": {}})
    network = published_cifar(precision=recipe.precision)
    yield from _training(plan, title, recipe, theirs.name, network, recipe.precision, target)


def imagenet(plan: Plan) -> Iterator[Comparison]:
    """The ImageNet configuration against ResNet-50; one image is tried without the compiler."""
    config = find_recipe("imagenet").flow_config(1000, plan.seed)
    theirs = Side(name="ResNet-50", network=resnet50().to(plan.device))
    ours = Side(name="ours", network=GenerativeClassifier(config).to(plan.device))
    for batch in (1,) if plan.quick else (8, 1):
        x = plan.images(batch, config.input_shape)
        contest = InferenceContest("imagenet 224x224", theirs, ours, x, plan.pace)
        yield contest.eager("target 0.45, aim 0.7")
        if batch > 1:
            yield contest.compiled("target 0.45, aim 0.7", {"compiled": {}})


def activation_memory(plan: Plan) -> Iterator[memory.ActivationMemory]:
    """Activation memory and time of a step with recompute, at several depths."""
    batch = QUICK_BATCH if plan.quick else memory.BATCH
    yield memory.measure(plan.device, depths=memory.DEPTHS, batch=batch, rounds=plan.pace.rounds)


def _training(
    plan: Plan,
    title: str,
    recipe: Recipe,
    theirs: str,
    network: FreiaClassifier,
    precision: Precision,
    target: str,
) -> Iterator[Comparison]:
    """A step of 128 images without the average of weights; bf16 is inside couplings alone."""
    from tests.bench.freia_nets import FreiaLearner

    config = replace(recipe.train_config(data=""), precision=precision, ema=0.0)
    ours = GenerativeClassifier(recipe.flow_config(10, plan.seed)).to(plan.device)
    x = plan.images(128, recipe.input_shape)
    return training_contest(
        title,
        {
            theirs: FreiaLearner(network.to(plan.device), config),
            "ours": FlowLearner(ours, config),
        },
        config,
        x,
        torch.arange(len(x), device=plan.device) % 10,
        plan.pace,
        target,
    )


ROWS: dict[str, Callable[[Plan], Iterator[Result]]] = {
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "memory": activation_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short rounds, no compiler")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DEFAULT_PATH)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # FrEIA draws its permutations from it
    plan = Plan(
        quick=args.quick,
        pace=Pace(rounds=7, least_s=0.02 if args.quick else 0.5),
        seed=args.seed,
        device=default_device(),
    )
    record = Record(args.out)
    surroundings = setting(quick=plan.quick, seed=plan.seed, pace=plan.pace)
    for name in args.rows:
        record.measure(name, surroundings, ROWS[name](plan))


if __name__ == "__main__":
    main()
