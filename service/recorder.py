"""What is kept of a finished request: counts, one line of log, and rejected images if asked for."""

from __future__ import annotations

from service import metrics
from service.access_log import AccessLog
from service.ask import Ask
from service.errors import OK, OVERLOADED
from service.quarantine import Quarantine
from service.tally import Tally, count_statistics, count_verdict
from service.trace import Trace


class Recorder:
    """Called once a request, on the event loop; never fails one and never waits."""

    def __init__(
        self,
        tally: Tally,
        log: AccessLog | None = None,
        quarantine: Quarantine | None = None,
        *,
        counting: bool = True,
    ) -> None:
        """Without ``counting`` the tally stays empty."""
        self.tally = tally
        self._counting = counting
        self._log = log
        self._quarantine = quarantine

    def record(self, trace: Trace, ask: Ask | None) -> None:
        """Count, log and keep; ``ask`` is None where it could not be read."""
        if self._counting:
            self._count(trace)
        if self._log is not None:
            self._log.write(trace)
        kept = trace.counted and trace.code == OK
        if self._quarantine is not None and ask is not None and kept:
            self._quarantine.keep(trace, ask)

    def batch(self, images: int, seconds: float, gate_s: float) -> None:
        """One batch, whose ``seconds`` are those of the gate and of the forward pass before it."""
        if not self._counting:
            return
        self.tally.observe(metrics.BATCH_IMAGES, images)
        self.tally.observe(metrics.STAGE_SECONDS, max(0.0, seconds - gate_s), "forward")
        self.tally.observe(metrics.STAGE_SECONDS, gate_s, "gate")

    def _count(self, trace: Trace) -> None:
        self.tally.count(metrics.REQUESTS, trace.protocol, trace.code)
        self.tally.observe(metrics.REQUEST_SECONDS, trace.seconds, trace.protocol, id=trace.id)
        if trace.code == OVERLOADED.code and trace.counted:
            self.tally.count(metrics.SHED)
        for stage in ("decode", "queue"):
            if stage in trace.stages:
                self.tally.observe(metrics.STAGE_SECONDS, trace.stages[stage], stage)
        if trace.model is None:
            return
        count_statistics(self.tally, trace)
        if trace.code == OK and trace.counted:
            for verdict in trace.verdicts:
                count_verdict(self.tally, trace.model.name, verdict)
