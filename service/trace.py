"""What is known of one request when it ends: for its log line, the metrics and the quarantine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from service.answer import ModelName
from service.errors import CANCELLED
from service.verdict import Verdict


@dataclass(kw_only=True)
class Trace:
    """Filled as the request goes on; ``code`` is what it ended with, ``stages`` are seconds.

    ``counted``: whether its verdicts are decisions to be counted.
    """

    protocol: str
    id: str
    code: str = CANCELLED.code
    model: ModelName | None = None
    verdicts: Sequence[Verdict] = ()
    counted: bool = True
    stages: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note how long a part of it took, even if it fails."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = time.perf_counter() - began

    @property
    def seconds(self) -> float:
        """Since it arrived."""
        return time.perf_counter() - self.began
