import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import shedding

FRONT_ENDS = (
    b"# pxname,svname,scur,dreq,status\n"
    b"http_frontend,FRONTEND,3,40,OPEN\n"
    b"grpc_frontend,FRONTEND,0,2,OPEN\n"
    b"stats,FRONTEND,1,7,OPEN\n\n"
)
BACK_ENDS = (
    "# pxname,svname,act,bck,status\n"
    "default_backend,BACKEND,0,0,UP\n"
    "grpc_fallback_backend,BACKEND,1,0,UP\n"
    "http-oodgate,BACKEND,{http},1,UP\n"
    "grpc-oodgate,BACKEND,{grpc},1,UP\n\n"
)


@contextlib.contextmanager
def haproxy(path: Path, question: bytes, answer: bytes) -> Iterator[None]:
    """Its admin socket, for one question."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply() -> None:
            with listener.accept()[0] as asked:
                assert asked.recv(100) == question
                asked.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        yield
        thread.join()


@pytest.fixture
def admin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serve puts it into a folder named after the node."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_SOCKET_PATH", str(tmp_path / "s"))
    (tmp_path / "0a1b2c").mkdir()
    return tmp_path / "0a1b2c" / "s"


def test_what_the_front_ends_have_refused(admin: Path) -> None:
    with haproxy(admin, b"show stat -1 1 -1\n", FRONT_ENDS):
        assert shedding.refused() == 42


@pytest.mark.parametrize(("http", "grpc", "fewer"), [(2, 2, 2), (2, 1, 1), (0, 2, 0)])
def test_replicas_that_it_leads_to(admin: Path, http: int, grpc: int, fewer: int) -> None:
    with haproxy(admin, b"show stat -1 2 -1\n", BACK_ENDS.format(http=http, grpc=grpc).encode()):
        assert shedding.replicas_behind("oodgate") == fewer


def test_a_haproxy_that_knows_only_of_proxies_leads_to_no_replica(admin: Path) -> None:
    with haproxy(admin, b"show stat -1 2 -1\n", BACK_ENDS.partition("http-")[0].encode()):
        assert shedding.replicas_behind("oodgate") == 0


@pytest.mark.parametrize("place", [None, "nobody"])
def test_without_haproxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str | None
) -> None:
    monkeypatch.delenv("RAY_SERVE_HAPROXY_SOCKET_PATH", raising=False)
    if place is not None:
        monkeypatch.setenv("RAY_SERVE_HAPROXY_SOCKET_PATH", str(tmp_path / place))
    assert shedding.refused() is None
    assert shedding.replicas_behind("oodgate") == 0
