"""Metrics of a batch job, which ends before anybody could scrape it: pushed to a Pushgateway.

They are the service's own, counted from the rows of the verdict table, and pushed from a thread of
their own: at the start, every ten seconds, and at the end. Whatever is wrong with the gateway is
said once and never ends a job or holds up its scoring; the end waits for the last push, ten seconds
at most. What a gateway keeps of jobs that have ended is not cleared here.
"""

from __future__ import annotations

import base64
import contextlib
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import pyarrow as pa
from prometheus_client import pushadd_to_gateway
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from service import metrics
from service.exposition import Totals
from service.scorer import Scorer
from service.standing import count_model
from service.startup import LOOPBACK_HOSTS, StartupError
from service.tally import Tally, count_answer

#: The outcomes of ``oodgate_job_images_total``.
SCORED, ERROR = "scored", "error"

PERIOD_S = 10.0
TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """Where metrics go and what they are grouped by; ``url`` is free of the credentials."""

    url: str
    job: str
    instance: str
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str, job: str, instance: str) -> Gateway:
        """Of a URL with or without ``USER:PASSWORD@``; raises ``StartupError`` where it is none."""
        for name, value in (("--metrics-job", job), ("--metrics-instance", instance)):
            if not value.strip():
                raise StartupError(f"{name} is empty: expected a name")
        parts = _parts(url)
        user, at, host = parts.netloc.rpartition("@")
        return cls(
            url=parts._replace(netloc=host).geturl(),
            job=job,
            instance=instance,
            authorization=_basic(user) if at else None,
        )

    def push(self, collector: Collector, timeout_s: float) -> None:
        """Replace what the gateway knows of this job, metric by metric; raises ``OSError``."""
        pushadd_to_gateway(
            self.url,
            self.job,
            collector,
            grouping_key={"instance": self.instance},
            timeout=timeout_s,
            handler=self._handler,
        )

    def _handler(
        self,
        url: str,
        method: str,
        timeout: float | None,
        headers: Sequence[tuple[str, str]],
        data: bytes,
    ) -> Callable[[], None]:
        """prometheus-client's own would follow a redirect: by a GET, and with the password."""
        request = urllib.request.Request(  # noqa: S310  # http or https, checked by _parts
            url, data, dict(headers), method=method
        )
        if self.authorization is not None:
            request.add_header("Authorization", self.authorization)
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if urllib.parse.urlsplit(url).hostname in LOOPBACK_HOSTS:  # out of a proxy's reach
            handlers.append(urllib.request.ProxyHandler({}))

        def send() -> None:
            try:
                urllib.request.build_opener(*handlers).open(request, timeout=timeout).close()
            except urllib.error.HTTPError as error:
                error.close()
                raise

        return send


class JobMetrics:
    """What one batch job has counted; use as a context manager around its scoring.

    ``warn`` is given one line, at most once, when a push has failed. ``timeout_s`` bounds a push,
    and twice of it the end.
    """

    def __init__(
        self,
        gateway: Gateway,
        scorer: Scorer,
        warn: Callable[[str], None],
        *,
        period_s: float = PERIOD_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._gateway, self._warn = gateway, warn
        self._period_s, self._timeout_s = period_s, timeout_s
        self._model = scorer.name
        self._tally, self._lock = _at_zero(scorer), threading.Lock()
        self._counted = _Counted(self._tally, self._lock)
        self._warned = False
        self._ended = threading.Event()
        # a daemon: a gateway that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="pushgateway", daemon=True)

    def count(self, table: pa.Table) -> None:
        """Rows of the verdict table."""
        failed = table.num_rows - table.column("error").null_count
        answers = _answers(table)
        with self._lock:
            self._tally.count(metrics.JOB_IMAGES, ERROR, by=failed)
            self._tally.count(metrics.JOB_IMAGES, SCORED, by=table.num_rows - failed)
            for answer in answers:
                count_answer(self._tally, self._model, **answer)

    def __enter__(self) -> JobMetrics:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            with self._lock:
                self._tally.count(metrics.JOB_SUCCESS, by=time.time())
        self._ended.set()
        self._thread.join(2 * self._timeout_s)
        if self._thread.is_alive():
            self._say("the last push has not ended in time")

    def _run(self) -> None:
        self._push()
        while not self._ended.wait(self._period_s):
            self._push()
        self._push()

    def _push(self) -> None:
        try:
            self._gateway.push(self._counted, self._timeout_s)
        except Exception as error:  # whatever is wrong with the gateway is no fault of the job
            self._say(_reason(error))

    def _say(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                f"warning: metrics did not reach {self._gateway.url}: {problem}; expected a "
                f"Pushgateway that answers within {self._timeout_s:g} s. The job goes on, and "
                "tries again in silence"
            )


class _Counted(Collector):
    """Only what has been counted: a batch job has no requests to shed."""

    def __init__(self, tally: Tally, lock: threading.Lock) -> None:
        self._tally, self._lock = tally, lock

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            known = {name for name, _ in (*self._tally.values, *self._tally.distributions)}
            families = list(Totals(self._tally).collect())
        named = {name.removesuffix("_total") for name in known}
        return (family for family in families if family.name in named)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error."""

    def redirect_request(self, *_: object) -> None:
        """None follows it."""


def _at_zero(scorer: Scorer) -> Tally:
    """Counters before their first event, and what the model holds."""
    tally, name = Tally(), scorer.name
    for outcome in (SCORED, ERROR):
        tally.count(metrics.JOB_IMAGES, outcome, by=0)
    if scorer.predictor is None:
        return tally
    threshold = scorer.predictor.bundle.calibration.threshold(scorer.alpha)
    size = scorer.predictor.reference_size
    count_model(tally, name, scorer.class_labels, threshold, size)
    tally.count(metrics.MODEL_INFO, name, scorer.version or "", by=1)
    return tally


def _answers(table: pa.Table) -> list[dict[str, Any]]:
    """What is counted of each row that has a verdict."""
    good = table.filter(table.column("decision").is_valid())
    if not good.num_rows:
        return []
    posterior = good.column("posterior").combine_chunks().flatten().to_numpy()
    names = ["decision", "reason", "class_index", "class_label", "p_value"]
    rows: list[dict[str, Any]] = good.select(names).to_pylist()
    matrix = posterior.reshape(len(rows), -1)
    for row, values in zip(rows, matrix, strict=True):
        row["confidence"] = float(values[row["class_index"]])
    return rows


def _parts(url: str) -> urllib.parse.SplitResult:
    with contextlib.suppress(ValueError):  # brackets or a port that make no sense
        parts = urllib.parse.urlsplit(url)
        plain = url.isprintable() and not set(url) & set(" ?#")
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if plain and known and "@" not in parts.path:
            return parts
    shown = url.rpartition("@")[2]  # what stands before may be a password
    raise StartupError(
        f"--metrics-pushgateway {shown} is no URL of a Pushgateway: expected "
        "http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with special characters as %XX"
    )


def _reason(error: Exception) -> str:
    plain = error.reason if type(error) is urllib.error.URLError else error
    return str(plain) or type(error).__name__


def _basic(user: str) -> str:
    name, _, password = (urllib.parse.unquote(part) for part in user.partition(":"))
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
