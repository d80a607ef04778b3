# mypy: disable-error-code="import-not-found, misc"
"""The Predictor as a runtime of MLServer: ``mlserver start FOLDER``.

``settings.json`` in the folder is MLServer's, ``model-settings.json`` this runtime's; batches are
merged by MLServer, in front of its workers.
"""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.bench.service.peers.predicting import Classifier


class Runtime(MLModel):
    """Takes encoded images, BYTES [n, 1] in base64: MLServer's REST has no raw tensors."""

    async def load(self) -> bool:
        self.classifier = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = Base64Codec.decode_input(payload.inputs[0])
        answers = self.classifier.of_pixels([self.classifier.pixels(image) for image in images])
        column = {name: [answer[name] for answer in answers] for name in answers[0]}
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("class", column["class"]),
                NumpyCodec.encode_output("posterior", np.array(column["posterior"])),
                NumpyCodec.encode_output("p_value", np.array(column["p_value"])),
                StringCodec.encode_output("decision", column["decision"]),
            ],
        )
