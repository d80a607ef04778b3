"""HTTP/1.1 as little as a load generator needs: messages made beforehand, answers by length."""

from __future__ import annotations

import socket
from collections.abc import Mapping

HEAD_END = b"\r\n\r\n"


def message(path: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> bytes:
    """A whole request, ready to be sent many times over connections that stay open."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEAD_END + body


class AnswerReader:
    """Takes what arrives on one connection and tells when an answer is whole."""

    def __init__(self) -> None:
        self._received = b""
        self._end = 0  # 0: the head is not whole yet

    def feed(self, data: bytes) -> bytes | None:
        """The whole answer, head and body, once it is there; the reader is then as new."""
        self._received += data
        if not self._end:
            head, found, _ = self._received.partition(HEAD_END)
            if not found:
                return None
            self._end = len(head) + len(HEAD_END) + _content_length(head)
        if len(self._received) < self._end:
            return None
        answer, self._received, self._end = self._received, b"", 0
        return answer


def ask(port: int, sent: bytes) -> bytes:
    """The whole answer to one message, on a connection of its own; as long as it takes."""
    reader = AnswerReader()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        while data := connection.recv(1 << 18):
            if (answer := reader.feed(data)) is not None:
                return answer
    raise ConnectionError(f"port {port} closed the connection before the end of its answer")


def status_of(answer: bytes) -> str:
    """The three digits of an answer's first line."""
    return answer[9:12].decode("ascii", "replace")


def body_of(answer: bytes) -> bytes:
    """What follows the head."""
    return answer.partition(HEAD_END)[2]


def closes(answer: bytes) -> bool:
    """Whether the server closes the connection after this answer."""
    return b"connection: close" in answer.partition(HEAD_END)[0].lower()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    raise ValueError(f"an answer without content-length: {head[:200]!r}")
