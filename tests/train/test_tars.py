"""WebDataset tars: samples, labels, broken and hostile archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.train.pieces import flat, png, sent, store
from train import tars
from train.chunks import inputs_of
from train.data import DataError, open_data

Member = tuple[str, bytes]


def tar(path: Path, members: list[Member], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def shard(first: int, count: int, names: bool = False) -> list[Member]:
    found: list[Member] = []
    for i in range(first, first + count):
        label = ("cat", "dog")[i % 2] if names else str(i % 3)
        found += [(f"d/{i:03d}.png", png(i)), (f"d/{i:03d}.cls", f"{label}\n".encode())]
        found += [(f"d/{i:03d}.json", b"{}")]
    return found


@pytest.mark.parametrize("kind", ["folder", "url", "store", "glob", "zipped"])
def test_shards_are_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    root, ending = tmp_path / "set", ".tar.gz" if kind == "zipped" else ".tar"
    mode = "w:gz" if kind == "zipped" else "w"
    for i in range(2):
        tar(root / f"{i}{ending}", shard(3 * i, 3), mode)
    if kind == "store":
        store(monkeypatch, tmp_path)
    specs = {"url": root.as_uri(), "store": "store://set", "glob": str(root / "*.tar")}
    rows = open_data(specs.get(kind, str(root)))
    chunks = sent(rows)
    assert [len(chunk) for chunk in chunks] == [3, 3]
    assert flat(chunks) == list(rows)
    assert len(rows) == 6
    assert rows.class_labels == ("0", "1", "2")
    assert [row.id for row in rows] == [f"{i // 3}{ending}/d/{i:03d}.png" for i in range(6)]
    assert [row.label for row in rows] == [0, 1, 2, 0, 1, 2]
    assert [row.image for row in rows] == [png(i) for i in range(6)]
    assert inputs_of(rows)["files"] == 2


def test_labels_by_name(tmp_path: Path) -> None:
    rows = open_data(str(tar(tmp_path / "x.tar", shard(0, 4, names=True))))
    assert rows.class_labels == ("cat", "dog")
    assert [row.label for row in rows] == [0, 1, 0, 1]
    assert next(row.id for row in rows) == "x.tar/d/000.png"


def test_samples_without_a_label_or_an_image_or_with_two(tmp_path: Path) -> None:
    members = [
        ("a.png", png(0)),
        ("b.json", b"{}"),
        ("c.left.png", png(1)),
        ("c.right.png", png(2)),
    ]
    rows = list(open_data(str(tar(tmp_path / "x.tar", members))))
    names = ["x.tar/a.png", "x.tar/b", "x.tar/c.left.png", "x.tar/c.right.png"]
    assert [row.id for row in rows] == names
    assert [row.error is None for row in rows] == [True, False, True, True]
    assert {row.label for row in rows} == {None}


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9])
def test_a_tar_that_breaks_off_has_a_row_that_says_so(tmp_path: Path, kept: float) -> None:
    path = tar(tmp_path / "x.tar", [(f"{i}.png", png(i) * 20) for i in range(20)])
    content = path.read_bytes()
    size = sum(512 + -(-len(png(i)) * 20 // 512) * 512 for i in range(20))
    path.write_bytes(content[: int(size * kept) // 512 * 512 + 100])
    rows = open_data(str(path))
    found = list(rows)
    assert len(rows) == len(found)
    assert found[-1].id == "x.tar#broken"
    assert found[-1].error is not None
    assert all(row.error is None for row in found[:-1])
    assert 3 < len(found) < 20


def test_a_header_in_the_middle_that_is_none(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [(f"{i}.png", png(i)) for i in range(6)])
    content = bytearray(path.read_bytes())
    content[3 * 1024 : 3 * 1024 + 200] = b"\xff" * 200
    path.write_bytes(content)
    rows = list(open_data(str(path)))
    assert [row.id for row in rows] == ["x.tar/0.png", "x.tar/1.png", "x.tar/2.png", "x.tar#broken"]


def test_what_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"junk" * 1000)
    (row,) = open_data(str(tmp_path / "x.tar"))
    assert row.id == "x.tar#broken"


def test_nothing_of_a_hostile_tar_reaches_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "MAX_SAMPLE", 1000)
    path = tar(tmp_path / "x.tar", [("../up.png", png(0)), ("big.png", bytes(2000))])
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    rows = list(open_data(str(path)))
    assert [row.id for row in rows] == ["x.tar/../up.png", "x.tar/big.png", "x.tar/link.png"]
    assert [row.error for row in rows] == [
        None,
        "with 2,000 bytes its sample has too many",
        "a link to '/etc/passwd': expected the file itself",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_header_that_claims_to_be_huge(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**40
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    (row,) = open_data(str(tmp_path / "x.tar"))
    assert row.error is not None
    assert "a header or member of" in row.error


def test_an_empty_tar(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images there"):
        open_data(str(tar(tmp_path / "x.tar", [])))


def test_a_member_that_claims_to_be_huge(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.bin")
    info.size = 2**60
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    (row,) = open_data(str(tmp_path / "x.tar"))
    assert row.id == "x.tar#broken"


def test_a_tar_that_ends_between_two_members(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [(f"{i}.png", png(i)) for i in range(6)])
    path.write_bytes(path.read_bytes()[: 3 * 1024])
    names = [row.id for row in open_data(str(path))]
    assert names == ["x.tar/0.png", "x.tar/1.png", "x.tar/2.png", "x.tar#broken"]


@pytest.mark.parametrize("label", [b"9" * 5000, b"x" * 201, b"", b"  \n"])
def test_a_label_that_is_none(tmp_path: Path, label: bytes) -> None:
    rows = open_data(str(tar(tmp_path / "x.tar", [("a.png", png(0)), ("a.cls", label)])))
    assert rows.class_labels is None
    assert [row.label for row in rows] == [None]
