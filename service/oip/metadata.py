"""What the Open Inference Protocol tells of the server and its models: plain dictionaries.

JSON sends them as they are, gRPC parses them into its messages of the same field names.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from service.oip.outputs import EXPLAINED, OUTPUTS, PER_CLASS
from service.oip.tensors import IMAGE, INPUTS, PIXELS

if TYPE_CHECKING:
    from service.served import ServedModel

PLATFORM = "oodgate_ibinn"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)

#: BYTES has another name in a model's configuration.
_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}

#: Their durations, and which of ours they are.
_DURATIONS = {
    "success": "success",
    "fail": "fail",
    "queue": "queue",
    "compute_input": "decode",
    "compute_infer": "forward",
    "compute_output": "render",
    "cache_hit": "",
    "cache_miss": "",
}

#: Counts and nanoseconds by (model, version, entry), over all replicas.
Values = Mapping[tuple[str, ...], int]


@functools.cache
def server_version() -> str:
    """The version that is installed; empty in a checkout that is not."""
    try:
        return importlib.metadata.version("oodgate")
    except importlib.metadata.PackageNotFoundError:
        return ""


def server_metadata() -> dict[str, Any]:
    """Reply of ``GET /v2``."""
    return {"name": "oodgate", "version": server_version(), "extensions": list(EXTENSIONS)}


def model_metadata(model: ServedModel) -> dict[str, Any]:
    """Tensors with their shapes; -1 is the number of images."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": _input_shape(model, name)}
        for name, datatype in INPUTS.items()
    ]
    outputs = [
        {"name": name, "datatype": datatype, "shape": _output_shape(model, name)}
        for name, datatype in (OUTPUTS | EXPLAINED).items()
    ]
    return {
        "name": model.name.name,
        "versions": [model.name.version],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    }


def model_config(model: ServedModel) -> dict[str, Any]:
    """Triton's configuration: the number of images is part of each shape (max_batch_size 0)."""
    metadata = model_metadata(model)
    return {
        "name": model.name.name,
        "platform": PLATFORM,
        "backend": "oodgate",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [
            {**_configured(tensor), "format": "FORMAT_NONE", "optional": True}
            for tensor in metadata["inputs"]
        ],
        "output": [_configured(tensor) for tensor in metadata["outputs"]],
    }


def model_statistics(models: Iterable[ServedModel], values: Values) -> dict[str, Any]:
    """Since the Monitor started; images are inferences, answered requests executions."""
    return {"model_stats": [_statistics(model, values) for model in models]}


def repository_index(models: Iterable[ServedModel]) -> list[dict[str, str]]:
    """What is served, all of it ready."""
    return [
        {"name": m.name.name, "version": m.name.version, "state": "READY", "reason": ""}
        for m in models
    ]


def _input_shape(model: ServedModel, name: str) -> list[int]:
    return {IMAGE: [-1], PIXELS: [-1, *model.spec.shape]}[name]


def _output_shape(model: ServedModel, name: str) -> list[int]:
    shapes = {
        "heatmap": [-1, len(model.labels), *model.places],
        "salience": [-1, *model.places],
        "energy": [-1, *model.places],
        "decision_plane": [-1, 2],
        **{key: [-1, len(model.labels)] for key in PER_CLASS},
    }
    return shapes.get(name, [-1])


def _configured(tensor: Mapping[str, Any]) -> dict[str, Any]:
    datatype = tensor["datatype"]
    return {
        "name": tensor["name"],
        "data_type": _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}"),
        "dims": tensor["shape"],
    }


def _statistics(model: ServedModel, values: Values) -> dict[str, Any]:
    name, version = model.name.name, model.name.version

    def value(entry: str) -> int:
        return values.get((name, version, entry), 0)

    return {
        "name": name,
        "version": version,
        "last_inference": value("last_ms"),
        "inference_count": value("images"),
        "execution_count": value("success_count"),
        "inference_stats": {
            theirs: {"count": value(f"{ours}_count"), "ns": value(f"{ours}_ns")}
            for theirs, ours in _DURATIONS.items()
        },
    }
