"""The Predictor behind bare FastAPI and uvicorn: ``python -m ...peers.fastapi_app PORT``."""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
import uvicorn
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request

from tests.bench.service.peers.predicting import Classifier

THREADS = int(os.environ.get("X_THREADS", "2"))


def build() -> FastAPI:
    """One image a forward pass, in a thread, as FastAPI treats work that blocks."""
    app = FastAPI()
    classifier = Classifier()
    limiter = anyio.CapacityLimiter(THREADS)

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
    uvicorn.run(build(), host="127.0.0.1", port=int(sys.argv[1]), access_log=False)
