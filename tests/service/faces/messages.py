"""Messages of the Open Inference Protocol over gRPC, and how a stock client reads their tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.protos import oip_pb2
from tests.service.faces import oip
from tests.service.faces.fakes import GREY

SERVICE = "/inference.GRPCInferenceService"

Input = oip_pb2.ModelInferRequest.InferInputTensor
Output = oip_pb2.ModelInferRequest.InferRequestedOutputTensor


def request(*images: bytes, raw: bool = True, **fields: Any) -> Any:
    """Encoded images, raw or typed."""
    tensor = Input(name="image", datatype="BYTES", shape=[len(images)])
    message = oip_pb2.ModelInferRequest(**{"model_name": GREY, **fields})
    if raw:
        message.raw_input_contents.append(oip.elements(images))
    else:
        tensor.contents.bytes_contents.extend(images)
    message.inputs.append(tensor)
    return message


def pixels(array: np.ndarray[Any, Any], raw: bool) -> Any:
    tensor = Input(name="pixels", datatype="UINT8", shape=array.shape)
    message = oip_pb2.ModelInferRequest(model_name=GREY)
    if raw:
        message.raw_input_contents.append(array.tobytes())
    else:
        tensor.contents.uint_contents.extend(array.ravel().tolist())
    message.inputs.append(tensor)
    return message


def tensors(answer: Any) -> dict[str, Any]:
    """As a stock client reads them: by their place."""
    assert len(answer.outputs) == len(answer.raw_output_contents)
    return {
        output.name: oip.tensor({"datatype": output.datatype, "shape": output.shape}, raw)
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
