"""What the network costs: ``python -m tests.bench.model [--quick] [--out build/bench/model.json]``.

Images a second of our network against the same one built with FrEIA, of our CIFAR-10 recipe
against the published network, and of the ImageNet configuration against ResNet-50. Every ratio is
the median of interleaved rounds within this run, with its range; nothing is asserted. ``--quick``
leaves out the compiler. What training gives in a stated time is in ``tests.bench.published_cifar``.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from model.classifier import ClassifierOutput, GenerativeClassifier
from model.config import FlowConfig
from model.scoring import default_device
from tests.bench.freia_nets import published_cifar, same_network, subnet_parameters
from tests.bench.pairs import Comparison, Step, compare
from train.objective import ib_loss
from train.recipes import RecipeError, find_recipe

#: Ways to run a network, by name: memory format, and options of ``torch.compile`` if it is used.
#: "frozen" lets the compiler fold weights and repack them once: for serving, not for training.
EAGER: dict[str, tuple[torch.memory_format, dict[str, Any] | None]] = {
    "eager": (torch.contiguous_format, None),
    "eager, channels last": (torch.channels_last, None),
}
COMPILED: dict[str, tuple[torch.memory_format, dict[str, Any] | None]] = {
    "compiled": (torch.contiguous_format, {}),
    "compiled, frozen": (torch.contiguous_format, {"freezing": True}),
    "compiled, frozen, channels last": (torch.channels_last, {"freezing": True}),
    "compiled, frozen, autotuned": (
        torch.contiguous_format,
        {"freezing": True, "max_autotune": True},
    ),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to measure; ``quick`` leaves out the compiler."""

    quick: bool
    rounds: int
    least_s: float
    seed: int
    device: torch.device

    def compare(self, title: str, ways: dict[str, Step], images: int, **words: str) -> Comparison:
        torch.compiler.reset()
        return compare(
            title, ways, images=images, rounds=self.rounds, least_s=self.least_s, **words
        )

    def fastest(self, ways: dict[str, Step], images: int) -> str:
        """The name of the fastest way, by three short rounds."""
        torch.compiler.reset()
        found = compare("", ways, images=images, rounds=3, least_s=self.least_s)
        return min(found.timings, key=lambda timing: timing.seconds.median).name

    def images(self, batch: int, shape: tuple[int, int, int]) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand(batch, *shape, generator=generator).to(self.device)

    def inference(
        self,
        label: str,
        module: nn.Module,
        x: Tensor,
        treatments: dict[str, tuple[torch.memory_format, dict[str, Any] | None]],
    ) -> dict[str, Step]:
        """One step for each treatment: evaluation of a batch, without gradients."""
        return {
            f"{label}, {name}": _forward(module.to(self.device).eval(), x, layout, options)
            for name, (layout, options) in treatments.items()
        }

    def training(self, module: nn.Module, x: Tensor, n_classes: int, compiled: bool) -> Step:
        """Forward, loss, backward and AdamW; the network keeps learning as rounds go on."""
        module = copy.deepcopy(module).to(self.device).train()
        network: Callable[[Tensor], ClassifierOutput] = (
            torch.compile(module) if compiled else module
        )
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
        labels = torch.arange(len(x), device=x.device) % n_classes

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            ib_loss(network(x), labels, beta=1.0).total.backward()
            optimizer.step()

        return step


def _forward(
    module: nn.Module, x: Tensor, layout: torch.memory_format, options: dict[str, Any] | None
) -> Step:
    network: Callable[[Tensor], object] = copy.deepcopy(module).to(memory_format=layout)
    x = x.contiguous(memory_format=layout)
    if options is not None:
        network = torch.compile(network, options=options)

    def step() -> object:
        with torch.no_grad():
            return network(x)

    return step


def against_freia(
    plan: Plan,
    title: str,
    networks: dict[str, nn.Module],
    config: FlowConfig,
    batches: dict[int, str],
) -> Iterator[Comparison]:
    """Inference at each batch size (to its target), the first of ``networks`` being FrEIA's."""
    for batch, target in batches.items():
        x = plan.images(batch, config.input_shape)
        (theirs, freia), (ours, network) = networks.items()
        ways = plan.inference(theirs, freia, x, EAGER)
        ways |= plan.inference(ours, network, x, EAGER)
        if not plan.quick:
            ways |= plan.inference(ours, network, x, COMPILED)
            names = ("compiled", "compiled, frozen")
            ways |= plan.inference(theirs, freia, x, {name: COMPILED[name] for name in names})
        yield plan.compare(f"{title}, inference, batch {batch}", ways, batch, target=target)


def training_against_freia(
    plan: Plan, title: str, networks: dict[str, nn.Module], config: FlowConfig, target: str
) -> Comparison:
    x = plan.images(128, config.input_shape)
    ways: dict[str, Step] = {}
    for compiled in (False,) if plan.quick else (False, True):
        for name, network in networks.items():
            way = f"{name}, {'compiled' if compiled else 'eager'}"
            ways[way] = plan.training(network, x, config.n_classes, compiled)
    return plan.compare(f"{title}, training step, batch 128", ways, 128, target=target)


def fashion_mnist(plan: Plan) -> Iterator[Comparison]:
    """Row a: our network against the same one built with FrEIA."""
    config = find_recipe("fashion-mnist").flow_config(10, plan.seed)
    networks = {"FrEIA": same_network(config), "ours": GenerativeClassifier(config)}
    theirs, ours = (subnet_parameters(network) for network in networks.values())
    if theirs != ours:
        raise SystemExit(f"not the same network: {theirs} parameters in FrEIA's subnets, {ours}")
    title = f"fashion-mnist, {ours} parameters in the subnets of each"
    batches = {64: "target 1.3, aim 2", 1: "target 1.7, aim 3"}
    yield from against_freia(plan, title, networks, config, batches)
    yield training_against_freia(plan, title, networks, config, "target 1.1, aim 1.5")


def cifar10(plan: Plan) -> Iterator[Comparison]:
    """Row b: our recipe against the published network, which is another architecture."""
    config = find_recipe("cifar10").flow_config(10, plan.seed)
    networks = {"published": published_cifar(), "ours": GenerativeClassifier(config)}
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks.values()]
    title = "cifar10, {:.1f} M parameters published, {:.1f} M ours".format(
        *(n / 1e6 for n in sizes)
    )
    yield from against_freia(plan, title, networks, config, {64: ""})
    yield training_against_freia(plan, title, networks, config, "")


def imagenet(plan: Plan) -> Iterator[Comparison]:
    """Row c: the ImageNet configuration against ResNet-50, each treated as suits it best."""
    ours = GenerativeClassifier(find_recipe("imagenet").flow_config(1000, plan.seed))
    networks = {"ResNet-50": resnet50(), "ours": ours}
    treatments = {"eager": EAGER} if plan.quick else {"eager": EAGER, "compiled": COMPILED}
    for batch in (8, 1):
        x = plan.images(batch, (3, 224, 224))
        for kind, treatment in treatments.items():
            best: dict[str, Step] = {}
            for label, network in networks.items():
                ways = plan.inference(label, network, x, treatment)
                name = plan.fastest(ways, batch)
                best[name] = ways[name]
            title = f"imagenet 224x224, inference, batch {batch}, {kind}"
            yield plan.compare(title, best, batch, target="target 0.45, aim 0.7")


ROWS: dict[str, Callable[[Plan], Iterator[Comparison]]] = {
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
}


def memory() -> list[dict[str, Any]]:
    """Peak activation memory, from ``tests.bench.memory`` where that exists."""
    try:
        rows = importlib.import_module("tests.bench.memory").activation_memory()
    except ImportError as error:
        print(f"activation memory: left out, {error}")
        return []
    found = [asdict(row) for row in rows]
    for row in found:
        print("activation memory: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return found


def setting(plan: Plan) -> dict[str, Any]:
    """What the figures depend on."""
    gpu = plan.device.type == "cuda"
    names = ("torch", "torchvision", "FrEIA")
    return {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {_processor()}",
        "threads": torch.get_num_threads(),
        "rounds": plan.rounds,
        "seed": plan.seed,
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def _processor() -> str:
    """The processor's name where Linux tells it; ``platform`` often has only the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short rounds, no compiler")
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, "memory"], default=[*ROWS, "memory"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench/model.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # FrEIA draws its permutations from it
    plan = Plan(
        quick=args.quick,
        rounds=7 if args.quick else 9,
        least_s=0.1 if args.quick else 0.5,
        seed=args.seed,
        device=default_device(),
    )
    record: dict[str, Any] = {**setting(plan), "comparisons": []}
    print(json.dumps(record))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name in args.rows:
        if name == "memory":
            record["memory"] = memory()
            continue
        try:
            for comparison in ROWS[name](plan):
                print(comparison, flush=True)
                record["comparisons"].append(comparison.to_dict())
        except RecipeError as error:
            print(f"{name}: left out, {error}", flush=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
