"""What backpropagation by inversion saves and costs: ``python -m tests.bench.memory``.

Peak memory above the level before it, of one training step (forward, loss, backward) of flows of
8, 16 and 32 couplings. Gradients of the parameters exist before the step, so that they are not
counted: they grow with depth under any method. On a CPU every storage is counted as it is made and
freed, workspaces inside an operator are not seen; on CUDA the allocator says what it handed out.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig
from model.scoring import default_device
from tests.bench.pairs import Pace, Spread, Step, compare
from train.objective import ib_loss

DEPTHS = (8, 16, 32)
BATCH = 64
PAIRS = 7
TARGET = "32 couplings over 8 with recompute: target 1.2, aim 1.05"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Peak activation memory of one step of a flow of ``blocks`` couplings, in bytes."""

    blocks: int
    recompute: bool
    peak_bytes: int


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages made while it is active and still alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # what goes in unknown was there before, and may come out again as a view
        for storage in _storages((args, kwargs)):
            self._known.add(storage)
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage not in self._known:
                self._count(storage)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        self._known.add(storage)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, nbytes: int) -> None:
        self.live -= nbytes


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def peak_bytes(step: Step, device: torch.device) -> int:
    """The most that ``step`` holds at a time above what was held before it, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    meter = LiveBytes()
    with meter:
        step()
    return meter.peak


def bench_config(blocks: int) -> FlowConfig:
    """All couplings at one size, 48 channels at 8 x 8, so that depth alone varies."""
    stages = (
        StageConfig(downsample="haar", blocks=0, width=64),
        StageConfig(downsample="haar", blocks=blocks, width=64),
    )
    return FlowConfig(input_shape=(3, 32, 32), n_classes=10, stages=stages)


def training_step(config: FlowConfig, device: torch.device, recompute: bool, batch: int) -> Step:
    """A step to be measured, taken once already so that its gradients are there."""
    torch.manual_seed(0)
    classifier = GenerativeClassifier(config).to(device).train()
    images = torch.rand(batch, *config.input_shape, device=device)
    labels = torch.arange(batch, device=device) % config.n_classes
    classifier.flow.initialise(images)
    classifier.flow.recompute = recompute

    def step() -> None:
        classifier.zero_grad(set_to_none=False)
        ib_loss(classifier(images), labels, beta=1.0).total.backward()

    step()
    return step


def activation_memory(
    device: torch.device, depths: tuple[int, ...] = DEPTHS, batch: int = BATCH
) -> list[Row]:
    """One row for each depth and way of backpropagation, the ordinary way first."""
    rows = []
    for blocks in depths:
        for recompute in (False, True):
            step = training_step(bench_config(blocks), device, recompute, batch)
            peak = peak_bytes(step, device)
            rows.append(Row(blocks=blocks, recompute=recompute, peak_bytes=peak))
    return rows


def growth(rows: Iterable[Row], recompute: bool) -> float:
    """Peak of the deepest flow relative to that of the shallowest."""
    peaks = {row.blocks: row.peak_bytes for row in rows if row.recompute == recompute}
    return peaks[max(peaks)] / peaks[min(peaks)]


def time_ratio(device: torch.device, blocks: int, batch: int, rounds: int) -> Spread:
    """Duration of a step with recompute over that of an ordinary one."""
    ways = {
        name: training_step(bench_config(blocks), device, recompute, batch)
        for name, recompute in (("recompute", True), ("ordinary", False))
    }
    found = compare("", ways, images=batch, pace=Pace(rounds=rounds, least_s=0.0))
    return found.timings[1].ratio


@dataclass(frozen=True, kw_only=True)
class ActivationMemory:
    """Peaks and durations at each depth, with and without recompute."""

    batch: int
    rows: tuple[Row, ...]
    time_ratios: dict[int, Spread]

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": "activation memory of a training step",
            "batch": self.batch,
            "peak_bytes": [asdict(row) for row in self.rows],
            "depths": sorted(self.time_ratios),
            "growth": {"ordinary": growth(self.rows, False), "recompute": growth(self.rows, True)},
            "target": TARGET,
            "time_ratio": {str(n): asdict(ratio) for n, ratio in self.time_ratios.items()},
        }

    def __str__(self) -> str:
        peaks = {(row.blocks, row.recompute): row.peak_bytes / 2**20 for row in self.rows}
        lines = [
            f"activation memory, batch {self.batch}, MiB at the peak of a step [{TARGET}]",
            "  couplings  ordinary  recompute  time ratio",
        ]
        for blocks, ratio in sorted(self.time_ratios.items()):
            ordinary, recomputed = peaks[blocks, False], peaks[blocks, True]
            lines.append(f"  {blocks:9}  {ordinary:8.1f}  {recomputed:9.1f}  {ratio}")
        grown = (growth(self.rows, False), growth(self.rows, True))
        return "\n".join([*lines, "  {:>9}  {:8.3f}  {:9.3f}".format("growth", *grown)])


def measure(
    device: torch.device, *, depths: tuple[int, ...], batch: int, rounds: int
) -> ActivationMemory:
    """Everything that there is to say, in a minute or so."""
    return ActivationMemory(
        batch=batch,
        rows=tuple(activation_memory(device, depths, batch)),
        time_ratios={blocks: time_ratio(device, blocks, batch, rounds) for blocks in depths},
    )


def main() -> None:
    print(measure(default_device(), depths=DEPTHS, batch=BATCH, rounds=PAIRS))


if __name__ == "__main__":
    main()
