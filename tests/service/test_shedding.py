import socket
import threading
from pathlib import Path

import pytest

from service import shedding

STATISTICS = (
    b"# pxname,svname,scur,dreq,status\n"
    b"http_frontend,FRONTEND,3,40,OPEN\n"
    b"grpc_frontend,FRONTEND,0,2,OPEN\n"
    b"http-oodgate,BACKEND,1,7,UP\n\n"
)


def test_what_the_front_ends_have_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    monkeypatch.setenv("RAY_SERVE_HAPROXY_SOCKET_PATH", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            with listener.accept()[0] as asked:
                assert asked.recv(100) == b"show stat -1 1 -1\n"
                asked.sendall(STATISTICS)

        thread = threading.Thread(target=answer)
        thread.start()
        assert shedding.refused() == 42
        thread.join()


def test_without_haproxy_it_has_refused_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_SERVE_HAPROXY_SOCKET_PATH", raising=False)
    assert shedding.refused() is None
    monkeypatch.setenv("RAY_SERVE_HAPROXY_SOCKET_PATH", str(tmp_path / "nobody"))
    assert shedding.refused() is None
