"""What training will cost, told before it starts: parameters, multiply-adds, time, memory.

Counts are exact; time and memory are those of a few real steps on a throw-away copy of the
network, so they follow the machine, the threads and the precision in use. Not in them: reading the
data, augmentation, what ``torch.compile`` gains and takes, validation, several workers.
"""

from __future__ import annotations

import copy
import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.classifier import GenerativeClassifier
from train.config import TrainConfig
from train.ema import averaged
from train.learner import Classifier, FlowLearner, build_learner

TIMED_STEPS = 2

#: Seconds of a first step beyond which no other is tried: it tells enough.
PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Parameters of flow and class means, multiply-adds of one image, bytes of all weights.

    Multiply-adds are those of convolutions and matrix products on the way to the logits, with
    |mu_y|^2 already known: it changes only with the weights.
    """

    flow_parameters: int
    means_parameters: int
    multiply_adds: int
    weight_bytes: int


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Time and memory of a run on this machine.

    ``seconds`` for all ``steps`` of ``batch_size`` images. ``peak_bytes``: on a CPU the largest
    resident size of the whole process up to the trial's end, images in memory included; on a GPU
    what tensors take there at most. ``data_bytes``: decoded training images in main memory.
    """

    steps: int
    batch_size: int
    seconds: float
    peak_bytes: int
    data_bytes: int
    device: str
    threads: int


def estimate(classifier: GenerativeClassifier) -> Cost:
    """Count what ``classifier`` holds and computes; its weights, mode and caches stay."""
    x = torch.zeros((1, *classifier.config.input_shape), device=classifier.device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _own_randomness(classifier), counter:
        z, _ = classifier.flow(x)
        classifier.class_means.inner(z)
    return Cost(
        flow_parameters=_parameters(classifier.flow),
        means_parameters=_parameters(classifier.class_means),
        multiply_adds=counter.get_total_flops() // 2,
        weight_bytes=sum(t.numel() * t.element_size() for t in classifier.state_dict().values()),
    )


def expected(classifier: Classifier, config: TrainConfig, rows: int) -> Expectation:
    """Time and memory of training on ``rows`` images as ``config`` says, from a few real steps.

    Call it where training would begin: with the device, the number of threads and the images in
    place. The classifier and the streams of random numbers are as before.
    """
    device = classifier.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _own_randomness(classifier):
        step = _trial(classifier, config, min(config.batch_size, rows))
        seconds = _seconds(step, 1, device)
        if seconds < PATIENCE_S:  # the first step also warms up
            seconds = _seconds(step, TIMED_STEPS, device)
    steps = config.epochs * math.ceil(rows / config.batch_size)
    return Expectation(
        steps=steps,
        batch_size=config.batch_size,
        seconds=steps * seconds,
        peak_bytes=_peak_bytes(device),
        data_bytes=rows * math.prod(classifier.config.input_shape),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )


def describe(cost: Cost, expectation: Expectation) -> str:
    """Two plain lines for the reader."""
    e = expectation
    where = f"{_gigabytes(e.peak_bytes)} on {e.device} ({e.threads} thread{'s'[: e.threads > 1]})"
    if e.device != "cpu":
        where = (
            f"{_gigabytes(e.peak_bytes)} on {e.device}, beside {_gigabytes(e.data_bytes)} of images"
        )
    return (
        f"{_count(cost.flow_parameters)} parameters in the flow and "
        f"{_count(cost.means_parameters)} in class means, {_count(cost.multiply_adds)} "
        f"multiply-adds an image\n{e.steps:,} steps of {e.batch_size} images: about "
        f"{_duration(e.seconds)} and {where}"
    )


def _trial(classifier: Classifier, config: TrainConfig, batch_size: int) -> Callable[[], None]:
    """A step of training on noise, of a copy that goes when the step does."""
    learner = build_learner(copy.deepcopy(classifier), config).train()
    if isinstance(learner, FlowLearner):
        learner.classifier.flow.recompute = config.recompute
    average = averaged(learner, config.ema) if config.ema else None
    optimizer = torch.optim.AdamW(learner.parameters(), lr=config.learning_rate, fused=True)
    device, shape = classifier.device, classifier.config
    x = torch.rand((batch_size, *shape.input_shape), device=device)
    labels = torch.randint(shape.n_classes, (batch_size,), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            result = learner(x, labels)
        result.total.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), config.grad_clip)
        optimizer.step()
        if average is not None:
            average.update_parameters(learner)

    return step


def _own_randomness(classifier: Classifier) -> AbstractContextManager[None]:
    device = classifier.device
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _seconds(step: Callable[[], None], times: int, device: torch.device) -> float:
    began = _now(device)
    for _ in range(times):
        step()
    return (_now(device) - began) / times


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's figure would count what the parent held before it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _count(number: int) -> str:
    """Three digits: 950, 7.84 k, 28.5 M, 6.92 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{_digits(number / size)} {unit}"
    return str(number)


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 5e7 else "under 0.1 GB"


def _digits(value: float) -> str:
    return f"{value:.{max(0, 2 - int(math.log10(value)))}f}" if value < 999.5 else f"{value:.0f}"


def _duration(seconds: float) -> str:
    """The largest sensible unit: seconds, minutes, hours, days."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    whole = max(1, math.ceil(seconds))
    return f"{whole} second{'s'[: whole > 1]}"
