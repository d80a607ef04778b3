"""Load over HTTP from one thread that costs the server's cores little.

Messages are made beforehand and sent over plain non-blocking sockets by one selector: about 30
microseconds of a core for a request, against some hundreds with asyncio and an HTTP library, on
cores that the servers need. (``wrk`` takes still less, but has no open loop, no latency since a
request was due, and is not on every machine.) No TLS, no chunked answers.
"""

from __future__ import annotations

import itertools
import math
import random
import selectors
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter

from tests.bench.service.loads import CLOSED, TIMEOUT, Answer, Load
from tests.bench.service.wire import AnswerReader, closes, status_of

#: The clock of a closed loop starts this much after the first request.
LEAD_S = 0.5
#: Answers that are waited for when nothing more is sent.
DRAIN_S = 30.0
#: Connections of an open loop; a request that finds none free waits, and its latency counts that.
POOL = 400
#: Bytes that a socket takes, and gives, at once.
BUFFER = 1 << 18
#: How often an open loop looks for requests that have waited too long.
LOOK_S = 0.05


class _Connection:
    """One request at a time; ``since`` is when the one on its way was sent or due."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.since = 0.0
        self.busy = False
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.socket.setblocking(False)
        self.reader = AnswerReader()

    def send(self, data: bytes) -> None:
        """Whole: with one request at a time the socket's buffer is empty."""
        if self.socket.send(data) != len(data):
            raise SystemExit(f"a message of {len(data)} bytes is more than a socket takes at once")

    def receive(self) -> bytes | None:
        """The whole answer, or None; raises ``ConnectionError`` where the server closed."""
        data = self.socket.recv(BUFFER)
        if not data:
            raise ConnectionResetError
        return self.reader.feed(data)


class _Pool:
    """Connections under one selector, and the answers that came in.

    ``messages`` are sent in turn. A connection that breaks is opened again; its request, if one
    was on its way, is recorded as one without an answer.
    """

    def __init__(self, port: int, connections: int, messages: Sequence[bytes]) -> None:
        self._turn = itertools.cycle(messages)
        self._selector = selectors.DefaultSelector()
        self.free = [_Connection(port) for _ in range(connections)]
        self._all = tuple(self.free)
        for connection in self._all:
            self._register(connection)
        self.answers: list[Answer] = []
        self.outstanding = 0
        self.start = perf_counter()

    def send(self, since: float | None = None) -> None:
        """The next message over a free connection; ``since``: when it was due, now if None."""
        connection, data = self.free.pop(), next(self._turn)
        connection.since, connection.busy = perf_counter() if since is None else since, True
        self.outstanding += 1
        try:
            connection.send(data)
        except ConnectionError:  # closed by the server while nothing was asked
            self._reopen(connection)
            connection.send(data)

    def wait(self, seconds: float) -> None:
        """Take what arrives, for ``seconds`` at most if nothing does."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            connection: _Connection = key.data
            try:
                answer = connection.receive()
            except ConnectionError:
                self._finish(connection, CLOSED)
                self._reopen(connection)
                continue
            if answer is not None:
                self._finish(connection, status_of(answer))
                if closes(answer):
                    self._reopen(connection)

    def record(self, status: str, since: float) -> None:
        now = perf_counter()
        self.answers.append(Answer(status, now - since, now - self.start))

    def expire(self, before: float) -> None:
        """Give up requests that were sent, or due, before that time."""
        for connection in self._all:
            if connection.busy and connection.since < before:
                self._finish(connection, TIMEOUT)
                self._reopen(connection)

    def drain(self) -> None:
        """Wait for what is on its way, so that the next load finds the server idle."""
        end = perf_counter() + DRAIN_S
        while self.outstanding and perf_counter() < end:
            self.wait(end - perf_counter())
        self.expire(math.inf)

    def close(self) -> None:
        self._selector.close()
        for connection in self._all:
            connection.socket.close()

    def _finish(self, connection: _Connection, status: str) -> None:
        if connection.busy:
            connection.busy = False
            self.outstanding -= 1
            self.free.append(connection)
            self.record(status, connection.since)

    def _reopen(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.open()
        self._register(connection)

    def _register(self, connection: _Connection) -> None:
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)


def closed_loop(
    port: int, messages: Sequence[bytes], *, connections: int, seconds: float, images: int = 1
) -> Load:
    """Every connection sends its next message when it has the answer to the last."""
    pool = _Pool(port, connections, messages)
    try:
        pool.start += LEAD_S
        end = pool.start + seconds
        while (now := perf_counter()) < end:
            while pool.free:
                pool.send()
            pool.wait(end - now)
        pool.drain()
    finally:
        pool.close()
    return Load(seconds=seconds, images=images, answers=tuple(pool.answers))


def open_loop(
    port: int,
    messages: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    timeout_s: float,
    seed: int = 0,
    connections: int = POOL,
) -> Load:
    """Poisson arrivals, ``rate`` a second on average, however slow the answers are.

    A request's latency counts from when it was due; after ``timeout_s`` it is given up.
    """
    pool = _Pool(port, connections, messages)
    due = deque(pool.start + t for t in arrivals(rate, seconds, seed))
    waiting: deque[float] = deque()
    look = pool.start
    try:
        while due or waiting or pool.outstanding:
            now = perf_counter()
            while due and due[0] <= now:
                waiting.append(due.popleft())
            if now >= look:
                look = now + LOOK_S
                pool.expire(now - timeout_s)
                while waiting and waiting[0] < now - timeout_s:
                    pool.record(TIMEOUT, waiting.popleft())
            while waiting and pool.free:
                pool.send(waiting.popleft())
            pool.wait(min(look, due[0] if due else look) - now)
    finally:
        pool.close()
    return Load(seconds=seconds, images=1, answers=tuple(pool.answers))


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times of a Poisson process within ``seconds``."""
    source, now = random.Random(seed), 0.0
    while (now := now + source.expovariate(rate)) < seconds:
        yield now
