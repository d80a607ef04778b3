"""A GPU gives the answers that the CPU gives: ``python -m tests.bench.devices BUNDLE TEST``.

The same images through one Predictor on each device, the GPU's in batches of several sizes: how far
p-values are apart, in ranks of the reference, and how often class or decision differ; then images/s
of each. A bundle's calibration was fitted on one device, and its p-values are only worth something
on another where these agree. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.image import UInt8Array, decode
from service.bundle import Bundle
from service.catalog import find_bundle
from service.predictor import Predictor
from service.verdict import Verdict
from train.data import open_data

SIZES = (1, 8, 32, 128, 512)
LEAST_S = 2.0


def verdicts(predictor: Predictor, images: UInt8Array, size: int) -> Iterator[Verdict]:
    for start in range(0, len(images), size):
        yield from predictor(images[start : start + size])


def differences(ours: list[Verdict], theirs: list[Verdict]) -> dict[str, float]:
    """``most_ranks``: the largest distance of two p-values of one image."""
    pairs = list(zip(ours, theirs, strict=True))
    ranks = [abs(a.p_value - b.p_value) * (a.reference_size + 1) for a, b in pairs]
    return {
        "images": len(pairs),
        "most_ranks": round(max(ranks), 3),
        "images_beyond_one_rank": sum(rank > 1.01 for rank in ranks),
        "other_class": sum(a.class_index != b.class_index for a, b in pairs),
        "other_decision": sum(a.decision != b.decision for a, b in pairs),
        "most_log_prob": max(abs(a.log_prob - b.log_prob) for a, b in pairs),
    }


def pace(predictor: Predictor, images: UInt8Array, size: int) -> float:
    """Images/s in batches of ``size``."""
    batch = images[:size]
    predictor(batch)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < LEAST_S:
        predictor(batch)
        done += size
    return done / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", help="name or folder")
    parser.add_argument("test", help="DATA: images that the bundle knows the kind of")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/devices.json"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU is there: expected one that PyTorch can use")
    bundle = find_bundle(args.bundle)
    cpu, gpu = (Predictor(Bundle.load(bundle), device) for device in ("cpu", "cuda"))
    rows = islice(iter(open_data(args.test)), args.images)
    images = np.stack([decode(row.image, cpu.spec) for row in rows])
    wanted = list(verdicts(cpu, images, 64))
    found: dict[str, Any] = {
        "bundle": bundle.name,
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cpu_threads": torch.get_num_threads(),
        "agreement": {
            size: differences(wanted[: 50 * size], list(verdicts(gpu, images[: 50 * size], size)))
            for size in SIZES
        },
        "images_per_s": {
            size: {"cpu": pace(cpu, images, size), "gpu": pace(gpu, images, size)} for size in SIZES
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
