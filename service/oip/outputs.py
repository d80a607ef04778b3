"""Outputs of the Open Inference Protocol: a verdict's fields as tensors, one row an image."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.ask import Reply, Wish
from service.errors import BadRequestError
from service.oip.tensors import Array, refuse_shared_memory

#: Datatype of each output, in the order in which they are answered; K: one value a class.
OUTPUTS = {
    "class_index": "INT64",
    "class_label": "BYTES",
    "posterior": "FP32",
    "prediction_set": "BOOL",
    "p_value": "FP64",
    "p_typicality": "FP64",
    "log_prob": "FP64",
    "score": "FP64",
    "threshold": "FP64",
    "decision": "BYTES",
    "rejected": "BOOL",
    "reason": "BYTES",
}
#: Outputs that are answered only where one is asked for by name, since they cost more than all
#: others: K classes, H x W places of the model's last resolution; ``decision_plane``: x, y.
EXPLAINED = {
    "heatmap": "FP32",
    "salience": "FP64",
    "energy": "FP64",
    "decision_plane": "FP64",
}
#: Outputs with a value for each class.
PER_CLASS = ("posterior", "prediction_set")

#: Fields of an explanation that have another name than the output.
_FIELDS = {"heatmap": "heatmaps"}

_DTYPES = {"INT64": "<i8", "FP32": "<f4", "FP64": "<f8", "BOOL": "?"}


@dataclass(frozen=True, kw_only=True)
class WantedOutput:
    """An output that was asked for; ``classes`` > 0 asks for the best so many as text instead."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass(frozen=True, kw_only=True)
class OutputTensor:
    """One output; BYTES are a list of bytes, all else an array of ``shape``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[bytes] | Array
    binary: bool = False

    def raw(self) -> bytes:
        """Little-endian, row-major; each element of BYTES behind its length."""
        if isinstance(self.values, list):
            return b"".join(struct.pack("<I", len(value)) + value for value in self.values)
        return self.values.astype(_DTYPES[self.datatype]).tobytes()

    def listed(self) -> list[Any]:
        """Flat, for JSON; what is not finite is null."""
        if isinstance(self.values, list):
            return [value.decode() for value in self.values]
        flat = self.values.ravel().tolist()
        if self.values.dtype.kind == "f":
            return [value if math.isfinite(value) else None for value in flat]
        return flat


def outputs_of(reply: Reply, wanted: Sequence[WantedOutput]) -> list[OutputTensor]:
    """The outputs that were asked for, in that order; all of them where none was."""
    asked = wanted or [WantedOutput(name=name) for name in OUTPUTS]
    return [_output(reply, output) for output in asked]


def checked_wanted(wanted: Sequence[WantedOutput]) -> Sequence[WantedOutput]:
    """Refuse what cannot be answered, before any work is done."""
    known = OUTPUTS | EXPLAINED
    for output in wanted:
        if output.name not in known:
            raise BadRequestError(
                f"output {output.name[:40]!r} does not exist: expected some of {', '.join(known)}"
            )
        if output.classes and output.name != "posterior":
            raise BadRequestError(
                f"classification of output {output.name!r} has no meaning: expected it of "
                "'posterior'"
            )
        if output.classes < 0:
            shown = str(output.classes)[:40]
            raise BadRequestError(f"classification is {shown}: expected at least 1")
    if len({output.name for output in wanted}) < len(wanted):
        raise BadRequestError("an output is asked for twice: expected each at most once")
    return wanted


def wish_in(wanted: Sequence[WantedOutput]) -> Wish | None:
    """What is to be explained; None where the outputs are those of a verdict."""
    return Wish() if any(output.name in EXPLAINED for output in wanted) else None


def response_parameters(reply: Reply) -> dict[str, float | str]:
    """alpha, mode, version, and the threshold where it is the same for all images."""
    first = reply.verdicts[0]
    shared: dict[str, float | str] = {
        "alpha": first.alpha,
        "mode": first.mode,
        "version": reply.model.version,
    }
    if all(verdict.threshold == first.threshold for verdict in reply.verdicts):
        shared["threshold"] = first.threshold
    return shared


def wanted_output(name: str, parameters: Mapping[str, Any], *, binary: bool) -> WantedOutput:
    """An output that is asked for; ``binary`` where it does not say."""
    refuse_shared_memory(parameters)
    classes = parameters.get("classification", 0)
    if type(classes) is not int:
        raise BadRequestError("classification is no whole number: expected how many classes")
    return WantedOutput(
        name=name, classes=classes, binary=parameters.get("binary_data", binary) is True
    )


def _output(reply: Reply, wanted: WantedOutput) -> OutputTensor:
    if wanted.name in EXPLAINED:
        return _explained(reply, wanted)
    name, datatype = wanted.name, OUTPUTS[wanted.name]
    images = len(reply.verdicts)
    if wanted.classes:
        count = min(wanted.classes, len(reply.labels))
        values: list[bytes] | Array = [
            entry for verdict in reply.verdicts for entry in _best(verdict.posterior, reply, count)
        ]
        return OutputTensor(
            name=name,
            datatype="BYTES",
            shape=(images, count),
            values=values,
            binary=wanted.binary,
        )
    column = [_value(name, verdict, reply) for verdict in reply.verdicts]
    if datatype == "BYTES":
        values = [str(value).encode() for value in column]
    else:
        values = np.array(column, dtype=_DTYPES[datatype])
    shape = (images, len(reply.labels)) if name in PER_CLASS else (images,)
    return OutputTensor(
        name=name, datatype=datatype, shape=shape, values=values, binary=wanted.binary
    )


def _explained(reply: Reply, wanted: WantedOutput) -> OutputTensor:
    name, datatype = wanted.name, EXPLAINED[wanted.name]
    rows = [
        one.plane.point if name == "decision_plane" else getattr(one, _FIELDS.get(name, name))
        for one in reply.explanations
    ]
    values = np.array(rows, dtype=_DTYPES[datatype])
    return OutputTensor(
        name=name, datatype=datatype, shape=values.shape, values=values, binary=wanted.binary
    )


def _value(name: str, verdict: Any, reply: Reply) -> Any:
    if name == "prediction_set":
        members = set(verdict.prediction_set)
        return [label in members for label in reply.labels]
    if name == "reason":
        return verdict.reason or ""
    return getattr(verdict, name)


def _best(posterior: Sequence[float], reply: Reply, count: int) -> Iterator[bytes]:
    """``value:index:label``, the most probable first."""
    order = sorted(range(len(posterior)), key=lambda k: (-posterior[k], k))
    for k in order[:count]:
        yield f"{posterior[k]:f}:{k}:{reply.labels[k]}".encode()
