"""API keys: where they come from, how they change without a restart; and nothing shows one."""

from __future__ import annotations

import logging
import random
import string
from pathlib import Path

import pytest

from service import keys as module
from service.keys import MIN_LENGTH, Keys, KeysError, presented

VARIABLE = "OODGATE_KEYS_OF_THIS_TEST"
ONE, TWO, THREE = "one-0123456789abcdef", "two-0123456789abcdef", "three-0123456789abcdef"


class Clock:
    """The module's clock, which stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.delenv(VARIABLE, raising=False)
    return clock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def accepted(keys: Keys) -> set[str]:
    return {key for key in (ONE, TWO, THREE) if keys.accepts(key)}


def test_no_keys_are_falsy_and_accept_nothing(clock: Clock) -> None:
    keys = Keys(None, VARIABLE)
    assert not keys
    assert not accepted(keys)
    assert not keys.accepts("")


def test_keys_of_file_and_environment_are_good_together(
    clock: Clock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f"# those of the team\n\n  {ONE}  \r\n   # {THREE}\n")
    monkeypatch.setenv(VARIABLE, f" {TWO},, ")
    keys = Keys(file, VARIABLE)
    assert keys
    assert accepted(keys) == {ONE, TWO}
    for other in ("", ONE[:-1], ONE + "x", ONE.upper(), f"# {THREE}", "# those of the team"):
        assert not keys.accepts(other)


def test_every_one_of_many_keys_is_accepted_and_no_other(clock: Clock, file: Path) -> None:
    draw = random.Random(0)
    alphabet = string.ascii_letters + string.digits + "-_.~+/="
    many = ["".join(draw.choices(alphabet, k=draw.randint(MIN_LENGTH, 60))) for _ in range(200)]
    file.write_text("\n".join(many))
    keys = Keys(file, VARIABLE)
    assert all(map(keys.accepts, many))
    assert not any(keys.accepts(key[1:]) or keys.accepts(key + "0") for key in many)


def test_strange_text_is_refused_without_an_exception(clock: Clock, file: Path) -> None:
    file.write_text(ONE)
    keys = Keys(file, VARIABLE)
    for text in ("\ud800" * 16, "\udcff" * 16, "\0" * 16, "ä" * 16, "\U0010ffff" * 16):
        assert not keys.accepts(text)


def test_keys_change_without_a_restart(clock: Clock, file: Path) -> None:
    file.write_text(ONE)
    keys = Keys(file, VARIABLE)
    file.write_text(f"{TWO}\n{THREE}\n")
    assert accepted(keys) == {ONE}  # not looked at yet
    clock.now += 1
    assert accepted(keys) == {TWO, THREE}
    (file.parent / "next").write_text(ONE)
    (file.parent / "next").rename(file)
    clock.now += 1
    assert accepted(keys) == {ONE}


@pytest.mark.parametrize("damage", ["", "# nothing\n", "short", "missing", "binary", "folder"])
def test_keys_stay_in_force_while_there_are_no_new_ones(
    damage: str, clock: Clock, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(ONE)
    keys = Keys(file, VARIABLE)
    if damage in ("missing", "folder"):
        file.unlink()
        if damage == "folder":
            file.mkdir()
    elif damage == "binary":
        file.write_bytes(TWO.encode() + b"\n\xff\xfe")
    else:
        file.write_text(damage)
    clock.now += 1
    with caplog.at_level(logging.WARNING, "oodgate"):
        assert accepted(keys) == {ONE}
        assert keys
    assert "the keys from before stay in force" in caplog.text
    assert str(file) in caplog.text
    if damage != "folder":
        file.write_text(THREE)
        clock.now += 1
        assert accepted(keys) == {THREE}


def test_the_file_is_looked_at_once_a_second(
    clock: Clock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(ONE)
    keys, looked, stamp = Keys(file, VARIABLE), [], module._stamp(file)

    def noted(file: Path) -> tuple[int, int, int]:
        looked.append(clock.now)
        return stamp

    monkeypatch.setattr(module, "_stamp", noted)
    for step in range(40):
        clock.now = step / 8  # exact in binary
        keys.accepts(ONE)
    assert looked == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file .*; expected a file of one key a line"),
        (b"", "has no key: expected one a line"),
        (b"# only this\n", "has no key: expected one a line"),
        (f"{ONE}\nshort-secret\n".encode(), "has a key of 12 characters: expected at least 16"),
        (f"{ONE}\nschlüssel-0123456789\n".encode(), "no header can carry: expected plain ASCII"),
        (TWO.encode() + b"\xff", "is no text: expected a file of one key a line"),
    ],
)
def test_a_file_without_good_keys_is_refused(
    content: bytes | None, message: str, clock: Clock, file: Path
) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeysError, match=f"^{file}.*{message}$") as refused:
        Keys(file, VARIABLE)
    _assert_hidden(refused.value, "short-secret", ONE, TWO)


def test_a_short_key_in_the_environment_is_refused(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{ONE},short-secret")
    with pytest.raises(KeysError, match=rf"^\${VARIABLE} has a key of 12 characters") as refused:
        Keys(None, VARIABLE)
    _assert_hidden(refused.value, "short-secret", ONE)


def test_keys_are_shown_nowhere(
    clock: Clock, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(ONE)
    monkeypatch.setenv(VARIABLE, TWO)
    with caplog.at_level(logging.DEBUG):
        keys = Keys(file, VARIABLE)
        file.write_bytes(THREE.encode() + b"\n\xff")
        clock.now += 1
        accepted(keys)
    for text in (repr(keys), str(keys), repr(vars(keys)), caplog.text):
        assert not any(key in text for key in (ONE, TWO, THREE))


def _assert_hidden(error: BaseException | None, *secrets: str) -> None:
    while error is not None:
        assert not any(secret in repr(error) + str(error) for secret in secrets)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], ""),
        ([("authorization", "Bearer abc")], "abc"),
        ([("authorization", "bearer  abc ")], "abc"),
        ([("authorization", "BEARER abc")], "abc"),
        ([("authorization", "Bearer")], ""),
        ([("authorization", "Bearer ")], ""),
        ([("authorization", "abc")], ""),
        ([("authorization", "Basic abc")], ""),
        ([("x-api-key", " abc ")], "abc"),
        ([("authorization", "Basic abc"), ("x-api-key", "def")], "def"),
        ([("x-api-key", "def"), ("authorization", "Bearer abc")], "abc"),
        ([("Authorization", "Bearer abc")], ""),  # names come in lower case
        ([("cookie", "abc"), ("key", "abc")], ""),
    ],
)
def test_where_a_key_is_looked_for(headers: list[tuple[str, str]], key: str) -> None:
    assert presented(headers) == key
