"""What training will cost, told before it starts: parameters, multiply-adds, time, memory.

Counts are exact; time and memory are those of a few real steps on a throw-away copy of the
network, with one worker's share of a batch, so they follow the machine, the threads and the
precision in use. Not in them: reading the data, augmentation, what ``torch.compile`` gains and
takes, validation's time, what workers tell each other.
"""

from __future__ import annotations

import copy
import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.classifier import GenerativeClassifier
from train.batch_sizes import INITIAL_IMAGES, images_at_once
from train.batches import Batch
from train.config import TrainConfig
from train.learner import Classifier, Learner, build_learner
from train.parallel import Alone
from train.recipes import RecipeError
from train.stepper import Stepper

Step = Callable[[], object]

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
    what tensors take there at most. The trial initialises as a run does, which may take more than a
    step; validation and scoring take less at once. ``data_bytes``: decoded training images in main
    memory.
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
    place. The classifier and the streams of random numbers are as before. Raises ``RecipeError``
    where there is not the memory.
    """
    device = classifier.device
    try:
        seconds = _measured(classifier, config, rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(config, device) from error
    steps = config.epochs * math.ceil(rows / config.batch_size)
    return Expectation(
        steps=steps,
        batch_size=config.batch_size,
        seconds=steps * seconds,
        peak_bytes=_peak_bytes(device),
        data_bytes=rows * classifier.config.dim,
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def device_name(device: torch.device) -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def describe_cost(cost: Cost) -> str:
    """A plain line for the reader."""
    return (
        f"{_count(cost.flow_parameters)} parameters in the flow and "
        f"{_count(cost.means_parameters)} in class means, {_count(cost.multiply_adds)} "
        "multiply-adds an image"
    )


def describe_parameters(classifier: Classifier) -> str:
    """A plain line for a classifier that ``estimate`` does not know."""
    return f"{_count(sum(p.numel() for p in classifier.parameters()))} parameters"


def describe_expectation(expectation: Expectation) -> str:
    """A plain line for the reader."""
    e = expectation
    where = f"{_gigabytes(e.peak_bytes)} on {e.device} ({e.threads} thread{'s'[: e.threads > 1]})"
    if e.device != "cpu":
        where = (
            f"{_gigabytes(e.peak_bytes)} on {e.device}, beside {_gigabytes(e.data_bytes)} of images"
        )
    return f"{e.steps:,} steps of {e.batch_size} images: about {_duration(e.seconds)} and {where}"


def _measured(classifier: Classifier, config: TrainConfig, rows: int) -> float:
    """Seconds of a step, after what comes before the first one; the peak of memory is left."""
    device = classifier.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _own_randomness(classifier):
        learner = build_learner(copy.deepcopy(classifier), config).train()
        if not config.init:
            shape = classifier.config
            first = min(images_at_once(shape.dim, INITIAL_IMAGES), rows)
            learner.initialise(torch.rand((first, *shape.input_shape), device=device))
        step = _trial(learner, config, min(math.ceil(config.batch_size / config.workers), rows))
        seconds = _seconds(step, 1, device)
        if seconds < PATIENCE_S:  # the first step also warms up
            seconds = _seconds(step, TIMED_STEPS, device)
    return seconds


def out_of_memory(config: TrainConfig, device: torch.device) -> RecipeError:
    """What to say when a step does not fit."""
    return RecipeError(
        f"batch size {config.batch_size}: a step of training needs more memory than there is "
        f"on {device.type}; choose a smaller --batch-size, or --recompute"
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Also of main memory, for which torch has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _trial(learner: Learner, config: TrainConfig, batch_size: int) -> Step:
    """A step of training on noise."""
    stepper = Stepper(learner, replace(config, compile=False), Alone())
    device, shape = learner.classifier.device, learner.classifier.config
    x = torch.rand((batch_size, *shape.input_shape), device=device)
    labels = torch.randint(shape.n_classes, (batch_size,), device=device)
    batch = Batch(pixels=x, labels=labels, images=batch_size)
    return lambda: stepper.step(batch, config.learning_rate)


def _own_randomness(classifier: Classifier) -> AbstractContextManager[None]:
    device = classifier.device
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _seconds(step: Step, times: int, device: torch.device) -> float:
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
