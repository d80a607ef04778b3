"""An engine on models without a network, asked as a face would, and what it notes of that."""

from __future__ import annotations

import asyncio

import pytest

from service.ask import Ask, Reply
from service.engine import Engine, Limits
from service.errors import Fault
from service.recorder import Recorder
from service.served import Models, ServedModel
from service.tally import Tally
from service.trace import Trace
from tests.service.fakes import model

LIMITS = Limits(
    max_body_bytes=5_000,
    max_pixels=1_000,
    max_images=3,
    max_waiting=2,
    read_timeout_s=60,
    queue_timeout_s=60,
)


class Notes(Recorder):
    """Also remembers the traces."""

    def __init__(self) -> None:
        super().__init__(Tally())
        self.traces: list[Trace] = []

    def record(self, trace: Trace, ask: Ask | None) -> None:
        super().record(trace, ask)
        self.traces.append(trace)


def engine(*served: ServedModel, limits: Limits = LIMITS) -> tuple[Engine, Notes]:
    notes = Notes()
    return Engine(models=Models(served or [model()]), limits=limits, recorder=notes), notes


async def asked(engine: Engine, ask: Ask, request_id: str = "") -> Reply:
    async def read() -> Ask:
        return ask

    return await engine.answer("http", read, lambda ask, reply: reply, request_id)


def refused(ask: Ask, at: Engine | None = None) -> Fault:
    with pytest.raises(Fault) as fault:
        asyncio.run(asked(at or engine()[0], ask))
    return fault.value
