"""One stock client at work: what was asked, what agreed, what was refused, what went wrong.

A script goes on after a fault, so that one run shows all of them; it ends with status 1 then.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.clients.expected import Array, Case, Mismatch, Verdict, agree, agree_classification

#: What each library calls the status of a refusal over HTTP and over gRPC.
UNKNOWN = ("404", "StatusCode.NOT_FOUND")
INVALID = ("400", "StatusCode.INVALID_ARGUMENT")
TOO_MUCH = ("413", *INVALID)
UNSUPPORTED = ("501", "StatusCode.UNIMPLEMENTED")
LATE = ("504", "StatusCode.DEADLINE_EXCEEDED")


class Recorder:
    """A client, and the names of the methods that were called on it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self._client, name)

    def never_called(self) -> list[str]:
        """Public methods that the script left out."""
        methods = inspect.getmembers(type(self._client), inspect.isroutine)
        public = {name for name, _ in methods if not name.startswith("_")}
        return sorted(public - self.called)


class Talk:
    """What a script found out so far; ``fault`` makes status and message of a library's error."""

    def __init__(
        self, client: Any, case: Case, fault: Callable[[Exception], tuple[str, str]]
    ) -> None:
        self.client = Recorder(client)
        self.case = case
        self._fault = fault
        self.agreed: list[str] = []
        self.refused: dict[str, tuple[str, str]] = {}
        self.faults: list[str] = []

    def check(self, what: str, found: Any, wanted: Any) -> None:
        """Equality, or a fault that shows both."""
        if found != wanted:
            self.faults.append(f"{what} is {found!r}: expected {wanted!r}")

    def agrees(
        self, way: str, outputs: Mapping[str, Array | None], verdicts: Sequence[Verdict]
    ) -> None:
        """Hold the outputs that came this way against the verdicts."""
        self._compare(way, lambda: agree(outputs, verdicts, self.case.labels))

    def agrees_classification(self, way: str, tensor: Array | None, count: int) -> None:
        """Hold the outputs of the classification extension against all verdicts."""
        case = self.case
        self._compare(way, lambda: agree_classification(tensor, count, case.verdicts, case.labels))

    def _compare(self, way: str, compare: Callable[[], None]) -> None:
        try:
            compare()
        except Mismatch as error:
            self.faults.append(f"{way}: {error}")
        else:
            self.agreed.append(way)

    async def refuses(
        self,
        what: str,
        call: Callable[[], Any],
        statuses: Sequence[str],
        *,
        may_answer: bool = False,
    ) -> None:
        """The call ends in one of these statuses, with a message that is fit for a client."""
        try:
            found = await ask(call())
        except Exception as error:
            status, message = self._fault(error)
            self.refused[what] = (status, message)
            if status not in statuses:
                self.faults.append(f"{what}: {status} {message!r}: expected one of {statuses}")
            elif not message or "Traceback" in message or "internal" in message:
                self.faults.append(f"{what}: message {message!r} is not fit for a client")
        else:
            if not may_answer:
                self.faults.append(f"{what} was answered: {str(found)[:200]!r}")

    async def part(self, name: str, call: Callable[[], Awaitable[None]]) -> None:
        """One part of a script; an error that nothing expected ends this part alone."""
        try:
            await call()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            lines = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "tests" in f.filename]
            said = " ".join(self._fault(error))
            self.faults.append(f"{name} broke off at {', '.join(lines)}: {said}")


async def ask(value: Any) -> Any:
    """The answer, of a client with or without asyncio."""
    return await value if inspect.isawaitable(value) else value


def main(script: Callable[[str, Case], Coroutine[Any, Any, Talk]]) -> None:
    """``python -m tests.clients.SCRIPT HOST:PORT CASE``: prints one JSON object."""
    address, path = sys.argv[1:]
    talk = asyncio.run(script(address, Case.load(Path(path))))
    report = {
        "agreed": talk.agreed,
        "refused": talk.refused,
        "called": sorted(talk.client.called),
        "never_called": talk.client.never_called(),
        "faults": talk.faults,
    }
    print(json.dumps(report, indent=1))
    sys.exit("\n".join(talk.faults) if talk.faults else 0)
