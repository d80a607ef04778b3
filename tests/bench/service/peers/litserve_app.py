# mypy: disable-error-code="import-not-found, misc"
"""The Predictor behind LitServe: ``... litserve_app PORT FOLDER``.

A request's body is the PNG itself, which LitServe's default of JSON would have in base64. Images
are decoded one by one and classified in a batch, in a process beside that of HTTP. The folder's
``settings.json`` has the arguments of ``LitAPI`` and ``LitServer``.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import litserve
from fastapi import Body

from model.image import UInt8Array
from tests.bench.service.peers.predicting import Classifier


class Api(litserve.LitAPI):
    """The methods that LitServe calls, in their order."""

    def setup(self, device: str) -> None:
        self.classifier = Classifier()

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/png")]) -> UInt8Array:
        return self.classifier.pixels(request)

    def batch(self, inputs: list[UInt8Array]) -> list[UInt8Array]:
        return inputs

    def predict(self, x: list[UInt8Array]) -> list[dict[str, Any]]:
        return self.classifier.of_pixels(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    settings = json.loads((Path(sys.argv[2]) / "settings.json").read_text())
    server = litserve.LitServer(Api(**settings["api"]), accelerator="cpu", **settings["server"])
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        access_log=False,
        log_level="warning",
    )
