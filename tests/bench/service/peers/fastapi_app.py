"""The Predictor behind bare FastAPI and uvicorn: ``... fastapi_app PORT FOLDER``.

One process, and one image a forward pass in a thread, as FastAPI treats work that blocks. The
folder's ``settings.json`` says how many at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request

from tests.bench.service.peers.predicting import Classifier


def build(threads: int) -> FastAPI:
    app, classifier = FastAPI(), Classifier()
    limiter = anyio.CapacityLimiter(threads)

    def classify(image: bytes) -> dict[str, Any]:
        return classifier.of_pixels([classifier.pixels(image)])[0]

    @app.post("/classify")
    async def answer(request: Request) -> dict[str, Any]:
        return await run_sync(classify, await request.body(), limiter=limiter)

    @app.get("/health")
    async def health() -> str:
        return "ok"

    return app


if __name__ == "__main__":
    settings = json.loads((Path(sys.argv[2]) / "settings.json").read_text())
    uvicorn.run(
        build(settings["threads"]), host="127.0.0.1", port=int(sys.argv[1]), access_log=False
    )
