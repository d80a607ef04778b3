"""The access log: one line of JSON a request, whatever the request and wherever it is written."""

from __future__ import annotations

import fcntl
import json
import os
import select
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import access_log, log_pipe
from service.access_log import MAX_SHOWN, AccessLog
from service.answer import ModelName
from service.trace import Trace
from service.verdict import Decision
from tests.service.fakes import REJECTED, VERDICT, trace

PIPE_ATOM = 4096
#: Longest id, worst for JSON: each of these characters takes six bytes there.
LONGEST_ID = "\x01" * 256

ABSTAINED = replace(VERDICT, decision=Decision.ABSTAIN, p_value=0.123456789)


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert not content or content.endswith(b"\n")
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def written(path: Path, *traces: Trace) -> list[dict[str, Any]]:
    log = AccessLog(path)
    for entry in traces:
        log.write(entry)
    log.close()
    return lines(path)


def test_a_line_says_who_asked_and_what_was_decided(tmp_path: Path) -> None:
    (line,) = written(tmp_path / "log", trace([REJECTED]))
    assert list(line) == [
        *("time", "id", "protocol", "code", "model", "version", "images", "decision"),
        *("p_value", "ms"),
    ]
    assert line["time"].endswith("+00:00")
    assert line["ms"].pop("total") >= 0
    del line["time"]
    assert line == {
        "id": "me",
        "protocol": "http",
        "code": "ok",
        "model": "digits",
        "version": "0123456789ab",
        "images": 1,
        "decision": "reject",
        "p_value": 0.01,
        "ms": {"decode": 1.0, "queue": 2.0, "forward": 3.0},
    }


def test_a_request_that_failed_early_has_a_line_too(tmp_path: Path) -> None:
    (line,) = written(tmp_path / "log", trace([], model=None, code="not_found", stages={}))
    assert (line["model"], line["version"], line["images"]) == (None, None, 0)
    assert (line["code"], line["decision"], line["p_value"]) == ("not_found", [], [])
    assert list(line["ms"]) == ["total"]


def test_many_images_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    (line,) = written(tmp_path / "log", trace([ABSTAINED, *[VERDICT] * 255]))
    assert line["images"] == 256
    assert line["decision"] == ["abstain"] + ["accept"] * (MAX_SHOWN - 1)
    assert line["p_value"] == [0.123457] + [0.5] * (MAX_SHOWN - 1)


@pytest.mark.parametrize("filler", ["\x01", "\\", "\U0010ffff", "\ud800", "\u2028", "x"])
def test_a_line_fits_into_what_a_pipe_takes_whole(filler: str, tmp_path: Path) -> None:
    worst = replace(ABSTAINED, p_value=1.23456e-05)
    name = ModelName(name="n" * 100, version="0123456789ab")
    log = AccessLog(tmp_path / "log")
    log._dropped = 10**9
    log.write(trace([worst] * 256, id=filler * 256, model=name, code="deadline_exceeded"))
    log.close()
    assert len((tmp_path / "log").read_bytes()) <= PIPE_ATOM
    assert lines(tmp_path / "log")[0]["images"] == 256


@settings(max_examples=200, deadline=None)
@given(
    id_=st.text(st.characters(exclude_categories=()), max_size=256)
    | st.sampled_from(['"}\n{"code": "ok"}', "\r\n", "\ud800", "\0", "\x1b[2J", "{}", "\\"])
)
def test_no_id_breaks_a_line(id_: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    first, second = written(path, trace(id=id_), trace(id="next"))
    assert first["id"] == id_.encode("utf-8", "replace").decode()
    assert (first["code"], second["id"]) == ("ok", "next")


def test_nothing_of_a_request_but_its_id_is_in_a_line(tmp_path: Path) -> None:
    """A trace holds no image, no key and no header, so none can be."""
    assert set(vars(trace())) == {
        *("protocol", "id", "code", "model", "verdicts", "stages", "began", "counted"),
    }
    written(tmp_path / "log", trace())
    assert (tmp_path / "log").stat().st_mode & 0o137 == 0


def test_several_writers_share_a_file(tmp_path: Path) -> None:
    logs = [AccessLog(tmp_path / "log") for _ in range(4)]

    def write(log: AccessLog, name: str) -> None:
        for number in range(50):
            log.write(trace([VERDICT] * 64, id=f"{name}-{number}"))

    threads = [threading.Thread(target=write, args=(log, str(i))) for i, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line["id"] for line in lines(tmp_path / "log")}) == 200


class Clock:
    now = 0.0

    @classmethod
    def monotonic(cls) -> float:
        cls.now += 1
        return cls.now


def test_a_file_that_was_moved_away_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "time", Clock)
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = AccessLog(path)
    log.write(trace(id="a"))
    path.rename(old)
    log.write(trace(id="b"))
    path.unlink()
    log.write(trace(id="c"))
    log.write(trace(id="d"))
    assert [line["id"] for line in lines(old)] == ["a"]
    assert [line["id"] for line in lines(path)] == ["c", "d"]


def test_a_file_that_cannot_be_opened_anew_goes_on_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "time", Clock)
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    log = AccessLog(folder / "log")
    folder.rename(moved)
    log.write(trace(id="a"))
    log.write(trace(id="b"))
    folder.mkdir()
    log.write(trace(id="c"))
    assert [line["id"] for line in lines(moved / "log")] == ["a", "b"]
    assert [line["id"] for line in lines(folder / "log")] == ["c"]


def test_a_full_pipe_drops_lines_and_says_how_many(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_ATOM)
    log, sent = AccessLog(pipe), 200
    for number in range(sent):
        log.write(trace(id=str(number)))
    before = os.read(reader, 1 << 20)
    log.write(trace(id="after"))
    log.write(trace(id="last"))
    after = os.read(reader, 1 << 20)
    os.close(reader)
    log.close()
    kept = [json.loads(line) for line in before.splitlines()]
    assert [line["id"] for line in kept] == [str(n) for n in range(len(kept))]
    assert 0 < len(kept) < sent
    first, second = map(json.loads, after.splitlines())
    assert (first["id"], first["lines_dropped_before"]) == ("after", sent - len(kept))
    assert second["id"] == "last"
    assert "lines_dropped_before" not in second


def test_a_closed_log_does_not_fail_a_request(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "log")
    log.close()
    log.write(trace())
    log.close()
    assert lines(tmp_path / "log") == []


def test_standard_error_is_the_process_s_own(capfd: pytest.CaptureFixture[str]) -> None:
    with open(2, "w", closefd=False) as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.__stderr__", terminal)
        log = AccessLog(None)
        log.write(trace(id="here"))
        log.close()
    assert json.loads(capfd.readouterr().err)["id"] == "here"


def test_the_pipe_of_the_terminal_prints_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as printed, open(reader, "rb") as shown:
        monkeypatch.setattr("sys.stdout", printed)
        log_pipe.print_from(tmp_path / "pipe")
        assert (tmp_path / "pipe").stat().st_mode & 0o777 == 0o600
        descriptor = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, b'{"id": "a')
        os.write(descriptor, b'"}\n{"id": "b"}\nhal')
        assert shown.readline() == b'{"id": "a"}\n'
        assert shown.readline() == b'{"id": "b"}\n'
        assert select.select([shown], [], [], 0)[0] == []
        os.write(descriptor, b"f\n")
        assert shown.readline() == b"half\n"
        os.close(descriptor)
