"""The quarantine: what is kept of rejected images, how much, and that it fails no request."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from service import quarantine as module
from service.ask import Ask
from service.quarantine import MAX_PENDING, Quarantine
from service.recorder import Recorder
from service.tally import Tally
from service.verdict import Verdict
from tests.service.fakes import REJECTED, VERDICT, png, trace

ROOM = 10**9


def keep(
    folder: Path,
    *images: bytes,
    files: int = 1000,
    size: int = ROOM,
    verdicts: Sequence[Verdict] | None = None,
    **changes: Any,
) -> list[Path]:
    """Keep images one after the other, all of them rejected, and look at what is there."""
    quarantine = Quarantine(folder, files, size)
    quarantine.keep(trace(verdicts or [REJECTED] * len(images), **changes), Ask(images=images))
    quarantine.close()
    return sorted(folder.iterdir())


def pictures(folder: Path) -> list[bytes]:
    """Kept images, the oldest first."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".json"]


def test_rejected_images_are_kept_with_their_verdicts(tmp_path: Path) -> None:
    verdicts = [VERDICT, REJECTED, VERDICT]
    record, picture = keep(tmp_path / "q", png(1), png(2), png(3), verdicts=verdicts, id="a/b")
    assert picture.read_bytes() == png(2)
    assert (picture.suffix, record.suffix) == (".png", ".json")
    assert record.stem == picture.stem
    found = json.loads(record.read_text(), parse_constant=pytest.fail)
    assert (found["id"], found["decision"], found["p_value"]) == ("a/b", "reject", 0.01)
    assert found["model"] == {"name": "digits", "version": "0123456789ab"}
    assert found["p_train"] is None  # NaN, which JSON has no word for
    assert found["unusual"] == [{"statistic": "ladj", "p_value": 0.01}]


def test_nothing_is_kept_of_other_answers(tmp_path: Path) -> None:
    assert keep(tmp_path / "q", png(1), verdicts=[VERDICT]) == []


def test_files_are_this_user_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "q"
    found = keep(folder, png(1))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in found] == [0o600, 0o600]


def test_the_same_image_is_kept_once(tmp_path: Path) -> None:
    for _ in range(2):
        found = keep(tmp_path / "q", png(1), png(2), png(1))
        assert len(found) == 4
    assert set(pictures(tmp_path / "q")) == {png(1), png(2)}


@pytest.mark.parametrize("files", [2, 3, 7, 10])
def test_the_oldest_go_when_there_are_too_many(files: int, tmp_path: Path) -> None:
    for number in range(12):
        found = keep(tmp_path / "q", png(number), files=files)
        assert len(found) <= files
        assert len(found) % 2 == 0  # an image goes with its verdict
        kept = range(max(0, number + 1 - files // 2), number + 1)
        assert pictures(tmp_path / "q") == [png(n) for n in kept]


def test_the_oldest_go_when_they_have_too_many_bytes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    newest: list[bytes] = []
    for size in (10, 40, 20, 60, 5, 5, 5, 60, 30):
        newest.append(noise(draw, size))
        found = keep(tmp_path / "q", newest[-1], size=9_000)
        assert sum(path.stat().st_size for path in found) <= 9_000
        assert pictures(tmp_path / "q") == newest[-len(found) // 2 :]


def noise(draw: np.random.Generator, size: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (size, size), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_an_image_over_the_cap_does_not_drive_out_the_rest(tmp_path: Path) -> None:
    keep(tmp_path / "q", png(1), size=2_000)
    keep(tmp_path / "q", noise(np.random.default_rng(0), 60), size=2_000)
    assert pictures(tmp_path / "q") == [png(1)]


def test_files_of_others_stay(tmp_path: Path) -> None:
    """Somebody may name a folder of photographs."""
    (tmp_path / "folder").mkdir()
    for name in ("0.jpg", "IMG_0001.jpg", "20240101T000000-x.png", ".hidden", "zz"):
        (tmp_path / name).write_bytes(bytes(5_000))
    before = set(tmp_path.iterdir())
    for number in range(6):
        found = keep(tmp_path, png(number), files=2, size=4_000)
        assert before < set(found)
        assert len(found) == len(before) + 2


@pytest.mark.parametrize("shape", [(1, 6, 4), (3, 6, 4), (6, 4, 1), (6, 4, 3)])
def test_raw_pixels_become_an_image_of_the_same_pixels(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    quarantine = Quarantine(tmp_path / "q", 100, ROOM)
    quarantine.keep(trace([REJECTED] * 2), Ask(images=pixels))
    quarantine.close()
    for content, expected in zip(pictures(tmp_path / "q"), pixels, strict=True):
        last = expected.transpose(1, 2, 0) if shape[0] < 6 else expected
        np.testing.assert_array_equal(np.atleast_3d(decoded(content)), last)


def decoded(content: bytes) -> npt.NDArray[Any]:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("id_", ["../../etc/x", "/etc/x", "a\0b", "\ud800", "x" * 5000, ".."])
def test_what_a_client_sends_is_never_a_name(id_: str, tmp_path: Path) -> None:
    found = keep(tmp_path / "q", png(1), id=id_)
    assert [path.name.split("-")[1] for path in found] == [
        path.name.split("-")[1] for path in keep(tmp_path / "r", png(1), id="other")
    ]
    assert json.loads(found[0].read_text())["id"] == id_
    assert {path.name for path in tmp_path.iterdir()} == {"q", "r"}


def test_bytes_without_a_name_are_kept_as_they_are(tmp_path: Path) -> None:
    content = b"\xff\xd8no picture"
    assert {path.suffix for path in keep(tmp_path / "q", content)} == {".json", ".bin"}
    assert pictures(tmp_path / "q") == [content]


def test_a_slow_disk_holds_a_bounded_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    encoded = module._encoded

    def slow(image: bytes | npt.NDArray[Any]) -> tuple[bytes, str]:
        assert free.wait(60)
        return encoded(image)

    monkeypatch.setattr(module, "_encoded", slow)
    quarantine = Quarantine(tmp_path / "q", 1000, ROOM)
    for number in range(3 * MAX_PENDING):
        quarantine.keep(trace([REJECTED]), Ask(images=[png(number)]))
    free.set()
    quarantine.close()
    assert set(pictures(tmp_path / "q")) == {png(n) for n in range(MAX_PENDING)}


@pytest.mark.parametrize("breakage", ["gone", "file"])
def test_a_broken_folder_fails_no_request_and_takes_no_places(
    breakage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "q"
    quarantine = Quarantine(folder, 100, ROOM)
    recorder = Recorder(Tally(), quarantine=quarantine)
    folder.rmdir()
    if breakage == "file":
        folder.write_text("in the way")
    for number in range(2 * MAX_PENDING):
        recorder.record(trace([REJECTED]), Ask(images=[png(number)]))
        quarantine._writer.submit(int).result()  # whatever was on its way is through
    folder.unlink(missing_ok=True)
    folder.mkdir()
    recorder.record(trace([REJECTED]), Ask(images=[png(999)]))
    quarantine.close()
    assert pictures(folder) == [png(999)]
    assert f"could not be kept in {folder}" in caplog.text


def test_recorder_keeps_answered_requests_only(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", 100, ROOM)
    recorder = Recorder(Tally(), quarantine=quarantine)
    recorder.record(trace([REJECTED], code="internal"), Ask(images=[png(1)]))
    recorder.record(replace(trace([REJECTED]), code="cancelled"), Ask(images=[png(2)]))
    recorder.record(trace([]), None)
    Recorder(Tally()).record(trace([REJECTED]), Ask(images=[png(3)]))  # off unless asked for
    quarantine.close()
    assert list((tmp_path / "q").iterdir()) == []
