"""The published CIFAR-10 network, built with FrEIA, trained for a stated time on this machine.

``python -m tests.bench.published_cifar --data DIR --seconds 600 --threads 2`` prints test accuracy,
bits/dim and images/s, to hold against our recipe after the same seconds. The setting is ours where
the published one needs days: AdamW with one cycle, ``ib_loss``, flips and shifts; ``DIR`` holds
``train.parquet`` and ``test.parquet``. Only training steps count: decoding and the test do not.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.classifier import ClassifierOutput
from model.image import InputSpec
from model.quantize import bin_centres, dequantize
from model.scoring import default_device
from tests.bench.freia_nets import FreiaClassifier, Wrapped, published_cifar
from train.augment import augment
from train.data import open_data
from train.images import Images, load_images
from train.objective import ib_loss
from train.progress import watch

LEVELS = 256
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How it is trained; ``shift`` in pixels, each way."""

    seconds: float
    beta: float
    learning_rate: float
    shift: int
    label_smoothing: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """Figures after training; ``bits_per_dim`` of test images at their bin centres."""

    seconds: float
    steps: int
    images_per_s: float
    train_loss: float
    accuracy: float
    bits_per_dim: float


def load(folder: Path, split: str) -> Images:
    rows = open_data(str(folder / f"{split}.parquet"))
    return load_images(
        rows, InputSpec(shape=(3, 32, 32)), rows.class_labels, partial(watch, shown=False)
    )


def train(network: FreiaClassifier, images: Images, setting: Setting) -> tuple[int, float, float]:
    """Steps done, seconds taken and the mean loss of the last hundred steps.

    The learning rate follows the share of the time that has passed: up in the first tenth, then a
    cosine to zero.
    """
    generator = torch.Generator().manual_seed(setting.seed)
    pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
    device = network.mu.device
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    network.train()
    losses: list[Tensor] = []
    began = time.perf_counter()
    while (passed := (time.perf_counter() - began) / setting.seconds) < 1:
        index = torch.randint(len(pixels), (BATCH,), generator=generator)
        x = augment(pixels[index], generator, flip=True, shift=setting.shift)
        x = dequantize(x, LEVELS, torch.rand(x.shape, generator=generator)).to(device)
        for group in optimizer.param_groups:
            group["lr"] = setting.learning_rate * one_cycle(passed)
        loss = ib_loss(
            network(x), labels[index].to(device), setting.beta, setting.label_smoothing
        ).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 8.0)
        optimizer.step()
        losses.append(loss.detach())
    return len(losses), time.perf_counter() - began, float(torch.stack(losses[-100:]).mean())


def one_cycle(passed: float) -> float:
    warmup = 0.1
    if passed < warmup:
        return passed / warmup
    return 0.5 * (1 + math.cos(math.pi * (passed - warmup) / (1 - warmup)))


@torch.no_grad()
def test(network: FreiaClassifier, images: Images) -> tuple[float, float]:
    """Accuracy and bits/dim, in evaluation mode."""
    network.eval()
    right, log_prob = 0, 0.0
    for start in range(0, len(images), 500):
        rows = slice(start, start + 500)
        pixels = torch.from_numpy(images.pixels[rows]).to(network.mu.device)
        output: ClassifierOutput = network(bin_centres(pixels, LEVELS))
        found = output.logits.argmax(1).cpu() == torch.from_numpy(images.labels[rows])
        right += int(found.sum())
        log_prob += float(output.log_prob.double().sum())
    nats = log_prob / len(images) / network.mu.shape[1]
    return right / len(images), math.log2(LEVELS) - nats / math.log(2)


def initialise(network: FreiaClassifier, images: Images) -> None:
    """Give the first transform, a ``Normalize``, the statistics of the first training rows."""
    first = network.inn.module_list[0]  # type: ignore[index]
    assert isinstance(first, Wrapped)
    pixels = torch.from_numpy(images.pixels[:1024]).to(network.mu.device)
    first.transform.initialise(bin_centres(pixels, LEVELS))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--shift", type=int, default=4)
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench/published_cifar.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # FrEIA draws its rotations from it
    setting = Setting(
        seconds=args.seconds,
        beta=args.beta,
        learning_rate=args.learning_rate,
        shift=args.shift,
        label_smoothing=args.label_smoothing,
        seed=args.seed,
    )
    network = published_cifar().to(default_device())
    images = load(args.data, "train")
    initialise(network, images)
    steps, seconds, loss = train(network, images, setting)
    accuracy, bits = test(network, load(args.data, "test"))
    result = Result(
        seconds=seconds,
        steps=steps,
        images_per_s=steps * BATCH / seconds,
        train_loss=loss,
        accuracy=accuracy,
        bits_per_dim=bits,
    )
    record = {"threads": args.threads, "setting": asdict(setting), "result": asdict(result)}
    print(json.dumps(record))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
