"""Ways to run a network, the same for both sides of a comparison: memory layout and compiler.

"As built" changes nothing: ours has its kernels channels last and gives its flow contiguous
images. What is not in the product (freezing, autotuning) is not here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tests.bench.pairs import Step
from train.batches import Batch
from train.config import TrainConfig
from train.learner import Learner
from train.parallel import Alone
from train.stepper import Stepper

AS_BUILT = "as built"

#: Memory formats of kernels and of images.
LAYOUTS = {
    "contiguous": (torch.contiguous_format, torch.contiguous_format),
    "kernels channels last": (torch.channels_last, torch.contiguous_format),
    "channels last": (torch.channels_last, torch.channels_last),
}

#: What ``service.predictor`` compiles with.
SERVED = {"dynamic": True, "fullgraph": True}

#: Options of ``torch.compile``: its own defaults, and those of the service.
COMPILED: Mapping[str, Mapping[str, bool]] = {"compiled": {}, "compiled as in serving": SERVED}


def layouts(network: nn.Module) -> list[str]:
    """As built and what differs from it."""
    kernels = [p for p in network.parameters() if p.ndim == 4]

    def built(layout: str) -> bool:
        kernel, image = LAYOUTS[layout]
        laid = all(p.is_contiguous(memory_format=kernel) for p in kernels)
        return laid and image == torch.contiguous_format

    return [AS_BUILT, *(layout for layout in LAYOUTS if not built(layout))]


def laid_out(network: nn.Module, x: Tensor, layout: str) -> tuple[nn.Module, Tensor]:
    """A copy of the network, and the images."""
    network = copy.deepcopy(network)
    if layout == AS_BUILT:
        return network, x
    kernel, image = LAYOUTS[layout]
    return network.to(memory_format=kernel), x.contiguous(memory_format=image)


def inference(
    network: nn.Module, x: Tensor, layout: str, options: Mapping[str, bool] | None = None
) -> Step:
    """Evaluation of a batch without gradients, compiled where there are ``options``.

    Not in inference mode, in which FrEIA does not compile.
    """
    network, x = laid_out(network.eval(), x, layout)
    if options is not None:
        network.compile(**options)

    def step() -> object:
        with torch.no_grad():
            return network(x)

    return step


def serving(network: nn.Module, x: Tensor, *, compiled: bool) -> Step:
    """Ours as ``service.predictor`` runs it, by default or with ``compiled``."""
    network, x = laid_out(network.eval(), x, AS_BUILT)
    if compiled:
        network.compile(**SERVED)

    def step() -> object:
        with torch.inference_mode():
            return network(x)

    return step


def training(learner: Learner, config: TrainConfig, x: Tensor, labels: Tensor, layout: str) -> Step:
    """A step of ``train``'s loop on the same batch; the network keeps learning as rounds go on."""
    module, x = laid_out(learner, x, layout)
    assert isinstance(module, Learner)
    stepper = Stepper(module.train(), config, Alone())
    batch = Batch(pixels=x, labels=labels, images=len(labels))
    return lambda: stepper.step(batch, config.learning_rate)
