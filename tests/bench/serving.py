"""What serving costs beside the model: latency through each front door against the bare Predictor.

Run by ``make bench``. Ratios within one run, interleaved: each round times the three in turn, and
the median of the rounds' ratios is printed with its spread. Nothing here is asserted.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

from model.image import decode
from service.bundle import Bundle
from service.predictor import Predictor
from service.protos import classifier_pb2, classifier_pb2_grpc
from service.startup import free_ports
from tests.demo.demo import served
from tests.demo.strangers import SPEC, held_out_digits, png

ROUNDS = 9
ASKS = 50


def timed(ask: Callable[[bytes], object], images: list[bytes]) -> float:
    """Median seconds of one ask."""
    took = []
    for image in images:
        began = time.perf_counter()
        ask(image)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("give a bundle: make bench BUNDLE=runs/digits-bundle")
    bundle = Path(sys.argv[1])
    predictor = Predictor(Bundle.load(bundle))
    images = [png(grey) for grey in held_out_digits()[0][:ASKS]]
    port, grpc_port = free_ports(2)
    with served(bundle, port, grpc_port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
        stub = classifier_pb2_grpc.ClassifierStub(channel)

        def over_http(image: bytes) -> object:
            connection.request("POST", "/v1/classify", image)
            return connection.getresponse().read()

        ways: dict[str, Callable[[bytes], object]] = {
            "predictor": lambda image: predictor(np.stack([decode(image, SPEC)])),
            "http": over_http,
            "grpc": lambda image: stub.Classify(classifier_pb2.ClassifyRequest(image=image)),
        }
        for ask in ways.values():
            timed(ask, images)
        rounds = [{name: timed(ask, images) for name, ask in ways.items()} for _ in range(ROUNDS)]
        connection.close()
        channel.close()
    report(rounds)


def report(rounds: list[dict[str, float]]) -> None:
    """Median and range of each ratio to the bare Predictor, and of its own milliseconds."""
    own = [entry["predictor"] * 1000 for entry in rounds]
    print(f"predictor alone: {statistics.median(own):.2f} ms ({min(own):.2f} to {max(own):.2f})")
    for name in ("http", "grpc"):
        ratios = [entry[name] / entry["predictor"] for entry in rounds]
        extra = [(entry[name] - entry["predictor"]) * 1000 for entry in rounds]
        print(
            f"{name} / predictor: {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) over {ROUNDS} rounds, {statistics.median(extra):+.2f} ms"
        )


if __name__ == "__main__":
    main()
