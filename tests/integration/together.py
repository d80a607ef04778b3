"""Verdicts of many images, as many a request as go in, over the Open Inference Protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.clients.expected import NUMPY
from tests.integration.running import Service

TOGETHER = 32


def verdicts_of(service: Service, model: str, images: Sequence[bytes]) -> list[dict[str, Any]]:
    """One row an image, by the names of the outputs that have one value an image."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(images), TOGETHER):
        some = images[start : start + TOGETHER]
        data = [base64.b64encode(image).decode() for image in some]
        tensor = {"name": "image", "datatype": "BYTES", "shape": [len(some)], "data": data}
        body = json.dumps({"inputs": [tensor]}).encode()
        status, text = service.request("POST", f"/v2/models/{model}/infer", body)
        assert status == 200, text
        columns = {
            output["name"]: np.array(output["data"], NUMPY[output["datatype"]])
            for output in json.loads(text)["outputs"]
            if len(output["shape"]) == 1
        }
        found += [{name: values[i] for name, values in columns.items()} for i in range(len(some))]
    return found
