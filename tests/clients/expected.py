"""What a stock client must get: the verdicts of ``POST /v1/classify`` as output tensors.

Read by the interpreters of foreign environments: numpy and the standard library alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Verdict = Mapping[str, Any]
Array = npt.NDArray[Any]

#: Datatype of each output; all are (n,) but two, which are (n, classes).
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
BY_CLASS = ("posterior", "prediction_set")
#: Outputs that are answered only where they are asked for, with how many dimensions.
EXPLAINED = {"heatmap": 4, "salience": 3, "energy": 3, "decision_plane": 2}
NUMPY = {"INT64": np.int64, "BYTES": object, "FP32": np.float32, "FP64": np.float64, "BOOL": bool}
#: A request may bring its own alpha; these verdicts are of it.
ALPHA = 0.1
UNKNOWN_VERSION = "0" * 12


class Mismatch(Exception):  # noqa: N818  # what was found is not what was expected
    """An answer that differs from the verdict of the service's own interface."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Images of the model's own size and their verdicts, as JSON between two environments."""

    model: str
    version: str
    labels: tuple[str, ...]
    #: Encoded, and the same as uint8 (n, C, H, W).
    images: tuple[bytes, ...]
    pixels: Array
    verdicts: tuple[Verdict, ...]
    verdicts_at_alpha: tuple[Verdict, ...]

    def image_tensor(self) -> Array:
        """BYTES (n,)."""
        return np.array(self.images, dtype=object)

    def image_texts(self) -> list[str]:
        """What JSON can hold of encoded images."""
        return [base64.b64encode(image).decode() for image in self.images]

    def channels_last(self) -> Array:
        """Pixels as uint8 (n, H, W, C)."""
        return np.ascontiguousarray(self.pixels.transpose(0, 2, 3, 1))

    def shape_of(self, output: str) -> list[int]:
        """As model metadata has it: -1 is the number of images."""
        return [-1, len(self.labels)] if output in BY_CLASS else [-1]

    def save(self, path: Path) -> None:
        """Write what ``load`` reads."""
        fields = {**vars(self), "images": self.image_texts(), "pixels": self.pixels.tolist()}
        path.write_text(json.dumps(fields))

    @classmethod
    def load(cls, path: Path) -> Case:
        """Read what ``save`` wrote."""
        fields = json.loads(path.read_text())
        return cls(
            model=fields["model"],
            version=fields["version"],
            labels=tuple(fields["labels"]),
            images=tuple(base64.b64decode(text) for text in fields["images"]),
            pixels=np.array(fields["pixels"], np.uint8),
            verdicts=tuple(fields["verdicts"]),
            verdicts_at_alpha=tuple(fields["verdicts_at_alpha"]),
        )


def agree(
    outputs: Mapping[str, Array | None], verdicts: Sequence[Verdict], labels: Sequence[str]
) -> None:
    """Hold tensors against verdicts, whatever subset of the outputs was asked for.

    The last digits of a number depend on the size of the batch, and so does a p-value, by one
    rank among ``reference_size``; p_typicality is two-sided and moves by twice that.
    """
    for name, tensor in outputs.items():
        shape = (len(verdicts), len(labels)) if name in BY_CLASS else (len(verdicts),)
        if tensor is None or tensor.shape != shape:
            found = None if tensor is None else tensor.shape
            raise Mismatch(f"{name} has shape {found}: expected {shape}")
        kind = np.dtype(NUMPY[OUTPUTS[name]])
        if tensor.dtype != kind:
            raise Mismatch(f"{name} is {tensor.dtype}: expected {kind}")
        for i, (row, verdict) in enumerate(zip(tensor, verdicts, strict=True)):
            wanted, tolerance = _wanted(name, verdict, labels)
            found = _plain(row)
            same = found == wanted if tolerance is None else _close(found, wanted, tolerance)
            if not same:
                raise Mismatch(f"{name} of image {i} is {found}: expected {wanted}")


def agree_classification(
    tensor: Array | None, count: int, verdicts: Sequence[Verdict], labels: Sequence[str]
) -> None:
    """Hold "value:index:label", the most probable first, against the posteriors."""
    if tensor is None or tensor.shape != (len(verdicts), count):
        found = None if tensor is None else tensor.shape
        raise Mismatch(f"classification has shape {found}: expected {(len(verdicts), count)}")
    for row, verdict in zip(tensor, verdicts, strict=True):
        wanted, tolerance = _wanted("posterior", verdict, labels)
        values = []
        for entry in row:
            value, index, label = _text(entry).split(":", 2)
            values.append(float(value))
            if labels[int(index)] != label:
                raise Mismatch(f"classification {_text(entry)!r}: class {index} is no {label!r}")
            if not _close([float(value)], [wanted[int(index)]], tolerance):
                raise Mismatch(f"classification {_text(entry)!r}: expected {wanted[int(index)]}")
        if values != sorted(values, reverse=True):
            raise Mismatch(f"classification is not sorted: {values}")
        if int(_text(row[0]).split(":")[1]) != verdict["class"]["index"]:
            raise Mismatch(f"classification begins with {_text(row[0])!r}: expected the class")


def _wanted(name: str, verdict: Verdict, labels: Sequence[str]) -> tuple[Any, Any]:
    """The value, and (relative, absolute) tolerance where it is a number."""
    rank = 1 / (verdict["reference_size"] + 1)
    if name == "class_index":
        return verdict["class"]["index"], None
    if name == "class_label":
        return verdict["class"]["label"], None
    if name == "posterior":
        by_label = {entry["label"]: entry["probability"] for entry in verdict["posterior"]}
        return [by_label[label] for label in labels], (1e-3, 1e-4)
    if name == "prediction_set":
        return [label in verdict["prediction_set"] for label in labels], None
    if name in ("p_value", "p_typicality"):
        return verdict[name], (1e-9, rank if name == "p_value" else 2 * rank)
    if name in ("log_prob", "score"):
        return verdict["scores"][name], (1e-3, 0.01)
    if name == "threshold":
        return verdict["threshold"], (1e-9, 0.0)
    if name == "reason":
        return verdict["reason"] or "", None
    return verdict[name], None


def _close(found: Any, wanted: Any, tolerance: tuple[float, float]) -> bool:
    """Null and NaN are the same: one interface has no NaN, the other no null."""
    relative, absolute = tolerance
    found, wanted = np.array(found, np.float64), np.array(wanted, np.float64)
    return bool(np.allclose(found, wanted, rtol=relative, atol=absolute, equal_nan=True))


def _plain(value: Any) -> Any:
    """Python's own types; bytes are text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return _text(value) if isinstance(value, bytes | str) else value


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
