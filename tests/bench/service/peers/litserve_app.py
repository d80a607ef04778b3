# mypy: disable-error-code="import-not-found, misc"
"""The Predictor behind LitServe: ``python -m ...peers.litserve_app PORT``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import litserve
from fastapi import Body

from model.image import UInt8Array
from tests.bench.service.peers.predicting import Classifier

SETTINGS = Path(__file__).with_name("litserve.json")


class Api(litserve.LitAPI):
    """Images are decoded one by one and classified in a batch, in a process of its own."""

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
    chosen = json.loads(SETTINGS.read_text())
    import os

    chosen["server"].update(json.loads(os.environ.get("X_SERVER", "{}")))
    chosen["api"].update(json.loads(os.environ.get("X_API", "{}")))
    chosen["run"].update(json.loads(os.environ.get("X_RUN", "{}")))
    server = litserve.LitServer(Api(**chosen["api"]), accelerator="cpu", **chosen["server"])
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        generate_client_file=False,
        access_log=False,
        log_level="warning",
        **chosen["run"],
    )
