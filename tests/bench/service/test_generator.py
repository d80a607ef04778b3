"""The load generator against a server of a few lines: what is sent, answered, lost and timed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.bench.service.generator import closed_loop, open_loop
from tests.bench.service.loads import CLOSED, TIMEOUT
from tests.bench.service.wire import AnswerReader, ask, body_of, closes, message, status_of

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHED = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nConnection: close\r\n\r\n"
MESSAGE = message("/x", b"image", {"Content-Type": "image/png"})

#: What a connection is answered each time, by turns; nothing: no answer; None: it is closed.
Answers = tuple[bytes | None, ...]


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Start a server that reads one message at a time; its port."""
    sockets: list[socket.socket] = []

    def start(*answers: bytes | None) -> int:
        listening = socket.create_server(("127.0.0.1", 0), backlog=500)
        sockets.append(listening)
        threading.Thread(target=_accept, args=(listening, answers), daemon=True).start()
        port: int = listening.getsockname()[1]
        return port

    yield start
    for listening in sockets:
        listening.close()


def _accept(listening: socket.socket, answers: Answers) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection, answers), daemon=True).start()


def _answer(connection: socket.socket, answers: Answers) -> None:
    turn = 0
    with connection:
        while connection.recv(len(MESSAGE), socket.MSG_WAITALL) == MESSAGE:
            answer = answers[turn % len(answers)]
            turn += 1
            if answer is None:
                return
            connection.sendall(answer)
            if answer and closes(answer):
                return


def test_a_closed_loop_asks_again_when_it_is_answered(serve: Callable[..., int]) -> None:
    found = closed_loop(serve(GOOD), [MESSAGE], connections=3, seconds=0.2, images=2)
    assert set(found.statuses) == {"200"}
    assert len(found.answers) >= 3
    assert found.images == 2


def test_an_open_loop_sends_as_many_as_are_due(serve: Callable[..., int]) -> None:
    """Answers that close their connections are followed by new ones."""
    port = serve(GOOD, SHED)
    found = open_loop(port, [MESSAGE], rate=300, seconds=0.3, timeout_s=30, connections=2)
    assert set(found.statuses) == {"200", "429"}
    again = open_loop(port, [MESSAGE], rate=300, seconds=0.3, timeout_s=30, connections=40)
    assert len(again.answers) == len(found.answers)


def test_what_is_not_answered_in_time_is_given_up(serve: Callable[..., int]) -> None:
    """With one connection the others never leave; they are given up, too."""
    found = open_loop(
        serve(b""), [MESSAGE], rate=100, seconds=0.1, timeout_s=0.1, connections=1, seed=1
    )
    assert set(found.statuses) == {TIMEOUT}
    assert all(answer.latency_s >= 0.1 for answer in found.answers)


def test_a_connection_that_breaks_is_no_answer(serve: Callable[..., int]) -> None:
    found = closed_loop(serve(None), [MESSAGE], connections=1, seconds=0.1)
    assert set(found.statuses) == {CLOSED}
    with pytest.raises(SystemExit, match=CLOSED):
        found.check()


def test_an_answer_may_come_in_pieces() -> None:
    reader = AnswerReader()
    assert [reader.feed(GOOD[i : i + 1]) for i in range(len(GOOD))] == (
        [None] * (len(GOOD) - 1) + [GOOD]
    )
    assert reader.feed(GOOD) == GOOD
    assert (status_of(GOOD), body_of(GOOD)) == ("200", b"ok")


def test_one_question(serve: Callable[..., int]) -> None:
    assert ask(serve(GOOD), MESSAGE) == GOOD
    with pytest.raises(ConnectionError):
        ask(serve(None), MESSAGE)
