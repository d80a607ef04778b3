"""The thirteen kinds of strangers: what they are made of, how many, and how they are stored."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, JpegImagePlugin

from model.image import InputSpec, UInt8Array, decode
from train import strangers, torchvision_sets
from train.data import DataError, ImageRows, open_data
from train.images import load_images
from train.strangers import NAMES, encoding_of, far13, produced_by_training

IN_ORDER = [
    *("other-digits", "other-digits-inverted", "other-photos"),
    *("vertical-flip", "rotation-90", "gaussian-noise", "mean-blur", "contrast", "inversion"),
    *("permutation", "constant", "uniform-noise", "shift-2"),
]

#: Rows of the data, and of the other sets.
ROWS, OTHERS = 12, 9

Arrays = list[UInt8Array]


def encoded(pixels: UInt8Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **({"format": "PNG"} | options))
    return buffer.getvalue()


def drawings(count: int, *shape: int, seed: int) -> Arrays:
    """Smooth images (H, W) or (H, W, 3), so that JPEG keeps them nearly."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        ends = random.uniform(0, 125, (2, 2))
        down, across = (np.linspace(ends[i, 0], ends[i, 1], shape[i]) for i in range(2))
        grey = down[:, None] + across
        tint = random.uniform(0.5, 1, shape[2:])
        made.append((grey[..., None] * tint if len(shape) > 2 else grey).astype(np.uint8))
    return made


def write_parquet(path: Path, images: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]
    pq.write_table(pa.table({"image": rows, "label": [0] * len(rows)}), path)
    return path


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A folder of small sets, stored as the real ones are."""
    root = tmp_path / "sets"
    digits = [encoded(image) for image in drawings(OTHERS, 28, 28, seed=1)]
    photos = [encoded(x, format="JPEG", quality=75) for x in drawings(OTHERS, 32, 32, 3, seed=2)]
    large = [encoded(x, format="JPEG", quality=85) for x in drawings(OTHERS, 50, 40, 3, seed=3)]
    write_parquet(root / "mnist" / "test.parquet", digits)
    write_parquet(root / "cifar10" / "test.parquet", photos)
    write_parquet(root / "imagenet_samples" / "train.parquet", large)
    return root


@pytest.fixture
def grey(tmp_path: Path) -> str:
    """Parquet of grey PNG images of 10 x 8 pixels."""
    images = [encoded(image) for image in drawings(ROWS, 10, 8, seed=4)]
    return str(write_parquet(tmp_path / "grey.parquet", images))


@pytest.fixture
def jpeg(tmp_path: Path) -> str:
    """A folder of a class, JPEG in colour of 32 x 32 pixels, quality 60 without subsampling."""
    (tmp_path / "jpeg" / "a").mkdir(parents=True)
    for i, image in enumerate(drawings(ROWS, 32, 32, 3, seed=5)):
        content = encoded(image, format="JPEG", quality=60, subsampling=0)
        (tmp_path / "jpeg" / "a" / f"{i:02d}.jpg").write_bytes(content)
    return str(tmp_path / "jpeg")


def pixels(rows: ImageRows, *shape: int) -> Arrays:
    spec = InputSpec(shape=shape)  # type: ignore[arg-type]
    return [decode(row.image, spec) for row in rows]


def same(ours: Arrays, theirs: Arrays) -> bool:
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def test_names_and_counts(grey: str, sets: Path) -> None:
    made = far13(grey, sets)
    assert list(made) == list(NAMES) == IN_ORDER
    for name, rows in made.items():
        expected = OTHERS if name.startswith("other") else ROWS
        assert len(rows) == len(list(rows)) == expected
        assert rows.class_labels is None
        assert all(row.id.startswith(f"far13/{name}/") and row.label is None for row in rows)
        assert len({row.id for row in rows}) == expected


def test_sets_made_of_the_data(grey: str, sets: Path) -> None:
    """Exact, for what is stored without loss."""
    own, made = pixels(open_data(grey), 1, 10, 8), far13(grey, sets)
    expected: dict[str, Callable[[UInt8Array], UInt8Array]] = {
        "vertical-flip": lambda x: x[:, ::-1],
        "contrast": lambda x: np.rint(x / 2).astype(np.uint8),
        "inversion": lambda x: 255 - x,
        "shift-2": lambda x: np.roll(x, 2, axis=1),
    }
    for name, change in expected.items():
        assert same(pixels(made[name], 1, 10, 8), [change(x) for x in own]), name
    turned = [np.rot90(x[0])[None] for x in own]
    assert same(pixels(made["rotation-90"], 1, 8, 10), turned)
    for row in made["rotation-90"]:
        assert Image.open(io.BytesIO(row.image)).size == (10, 8)
    constants = [len(np.unique(x)) for x in pixels(made["constant"], 1, 10, 8)]
    assert constants == [1] * ROWS
    assert len({int(x[0, 0, 0]) for x in pixels(made["constant"], 1, 10, 8)}) > ROWS // 2
    noise = np.array(pixels(made["gaussian-noise"], 1, 10, 8), dtype=float) - own
    assert 11 < noise.std() < 14


def test_sets_made_of_other_images(grey: str, sets: Path) -> None:
    """Grey and resized as a model does it with any image."""
    made = far13(grey, sets)
    digits = pixels(open_data(str(sets / "mnist" / "test.parquet")), 1, 10, 8)
    photos = pixels(open_data(str(sets / "cifar10" / "test.parquet")), 1, 10, 8)
    assert same(pixels(made["other-digits"], 1, 10, 8), digits)
    assert same(pixels(made["other-digits-inverted"], 1, 10, 8), [255 - x for x in digits])
    assert same(pixels(made["other-photos"], 1, 10, 8), photos)
    for rows in made.values():
        images = [Image.open(io.BytesIO(row.image)) for row in rows]
        assert {(image.format, image.mode) for image in images} == {("PNG", "L")}


def test_colour_has_large_photographs(jpeg: str, sets: Path) -> None:
    made = far13(jpeg, sets)
    large = pixels(open_data(str(sets / "imagenet_samples" / "train.parquet")), 3, 32, 32)
    digits = pixels(open_data(str(sets / "mnist" / "test.parquet")), 3, 32, 32)
    for name, expected in (("other-photos", large), ("other-digits", digits)):
        found = np.array(pixels(made[name], 3, 32, 32), dtype=float)
        assert len(found) == OTHERS
        assert np.abs(found - np.array(expected, dtype=float)).mean() < 3  # what JPEG takes


def test_jpeg_is_stored_as_the_data_are(jpeg: str, sets: Path) -> None:
    """The same quantisation tables and chroma subsampling in every set as in the data."""
    first = Image.open(io.BytesIO(next(iter(open_data(jpeg))).image))
    assert isinstance(first, JpegImagePlugin.JpegImageFile)
    assert JpegImagePlugin.get_sampling(first) == 0
    for name, rows in far13(jpeg, sets).items():
        for row in rows:
            image = Image.open(io.BytesIO(row.image))
            assert isinstance(image, JpegImagePlugin.JpegImageFile), name
            assert image.quantization == first.quantization
            assert JpegImagePlugin.get_sampling(image) == 0
            assert (image.mode, image.size) == ("RGB", (32, 32))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"quality": 75}),
        ("RGB", {"quality": 95, "subsampling": 1}),
        ("L", {"quality": 40}),
    ],
)
def test_jpeg_of_any_kind(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    shape = (16, 24, 3) if mode == "RGB" else (16, 24)
    content = encoded(drawings(1, *shape, seed=6)[0], format="JPEG", **options)
    (tmp_path / "x.jpg").write_bytes(content)
    encoding = encoding_of(open_data(str(tmp_path / "x.jpg")))
    assert encoding.shape == (len(mode), 16, 24)
    before = Image.open(io.BytesIO(content))
    after = Image.open(
        io.BytesIO(encoding.encode(decode(content, InputSpec(shape=encoding.shape))))
    )
    assert isinstance(before, JpegImagePlugin.JpegImageFile)
    assert isinstance(after, JpegImagePlugin.JpegImageFile)
    assert after.mode == mode
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)


def test_orientation_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    content = encoded(drawings(1, 16, 24, 3, seed=7)[0], format="JPEG", exif=exif)
    (tmp_path / "x.jpg").write_bytes(content)
    assert encoding_of(open_data(str(tmp_path / "x.jpg"))).shape == (3, 24, 16)


def test_the_same_every_time(grey: str, sets: Path) -> None:
    """However often and in whatever order they are read."""
    first = {name: [row.image for row in rows] for name, rows in far13(grey, sets).items()}
    again = far13(grey, sets)
    for name in reversed(NAMES):
        assert [row.image for row in again[name]] == first[name]
        assert [row.image for row in again[name]] == first[name]


def test_chance_is_that_of_the_name(grey: str, sets: Path) -> None:
    """What makes a set does not depend on which others are made: it can be made alone."""
    random = np.random.default_rng([0, *b"uniform-noise"])
    expected = [random.integers(256, size=(1, 10, 8), dtype=np.uint8) for _ in range(ROWS)]
    assert same(pixels(far13(grey, sets)["uniform-noise"], 1, 10, 8), expected)


def test_rows_are_drawn(grey: str, sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "COUNT", 5)
    own, digits = open_data(grey), open_data(str(sets / "mnist" / "test.parquet"))
    made = far13(grey, sets)
    assert all(len(rows) == len(list(rows)) == 5 for rows in made.values())
    for name, rows, of in (("inversion", own, ROWS), ("other-digits-inverted", digits, OTHERS)):
        chosen = np.sort(np.random.default_rng(0).permutation(of)[:5])
        expected = [255 - pixels(rows, 1, 10, 8)[i] for i in chosen]
        assert same(pixels(made[name], 1, 10, 8), expected)
        ids = [row.id for row in rows]
        assert [row.id for row in made[name]] == [f"far13/{name}/{ids[i]}" for i in chosen]


def test_all_of_them_as_data(grey: str, sets: Path) -> None:
    rows = open_data(f"far13:{grey}", strangers=sets)
    expected = [row for made in far13(grey, sets).values() for row in made]
    assert list(rows) == expected
    assert (len(rows), rows.class_labels, rows.spec) == (
        3 * OTHERS + 10 * ROWS,
        None,
        f"far13:{grey}",
    )
    spec = InputSpec(shape=(1, 10, 8))
    images = load_images(rows, spec, None, lambda rows, **_: rows)
    assert (images.labels == -1).all()


def test_sets_by_torchvision(grey: str, monkeypatch: pytest.MonkeyPatch, sets: Path) -> None:
    """What the folder has not, and without a folder, comes from there by name."""
    asked = []

    def open_set(spec: str, name: str, split: str) -> tuple[Any, None]:
        asked.append((name, split))
        return [(Image.new("L", (28, 28), 40 * i), 0) for i in range(3)], None

    monkeypatch.setattr(torchvision_sets, "open_set", open_set)
    made = far13(grey)
    assert asked == [("mnist", "test"), ("cifar10", "test")]
    assert [x.mean() for x in pixels(made["other-photos"], 1, 10, 8)] == [0, 40, 80]
    (sets / "mnist" / "test.parquet").unlink()
    asked.clear()
    assert len(far13(grey, sets)["other-digits"]) == 3
    assert asked == [("mnist", "test")]
    assert len(open_data(f"far13:{grey}")) == 3 * 3 + 10 * ROWS


def test_a_set_that_is_nowhere(
    grey: str, jpeg: str, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(spec: str, name: str, split: str) -> None:
        raise DataError(f"{spec}: torchvision could not provide it")

    monkeypatch.setattr(torchvision_sets, "open_set", offline)
    with pytest.raises(DataError, match=r"made of mnist/test.parquet: give .* --strangers.*could"):
        far13(grey)
    (sets / "imagenet_samples" / "train.parquet").unlink()
    message = (
        "made of imagenet_samples/train.parquet: .* --strangers, .*torchvision has no such set"
    )
    with pytest.raises(DataError, match=message):
        far13(jpeg, sets)
    with pytest.raises(DataError, match=r"--strangers .*nowhere: not a folder; expected one with"):
        far13(grey, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("far13:", "DATA is empty"),
        ("far13:{tmp}/no", "no such file or folder"),
        ("far13:{tmp}/none.parquet", "found no images, expected some to make strangers from"),
        ("far13:{tmp}/x.webp", "x.webp is WEBP, whose loss cannot be repeated in strangers: exp"),
        ("far13:{tmp}/x.gif", "x.gif is GIF"),
        ("far13:{tmp}/damaged.png", "damaged.png: the PNG image is truncated"),
    ],
)
def test_data_that_no_stranger_is_made_of(
    tmp_path: Path, sets: Path, data: str, message: str
) -> None:
    drawing = drawings(1, 8, 8, seed=8)[0]
    for kind in ("webp", "gif"):
        (tmp_path / f"x.{kind}").write_bytes(encoded(drawing, format=kind))
    (tmp_path / "damaged.png").write_bytes(encoded(drawing)[:60])
    empty = pa.table({"image": pa.array([], pa.binary())})
    pq.write_table(empty, tmp_path / "none.parquet")
    with pytest.raises(DataError, match=message):
        open_data(data.format(tmp=tmp_path), strangers=sets)


def test_a_later_image_that_is_damaged(tmp_path: Path, sets: Path) -> None:
    good = encoded(drawings(1, 8, 8, seed=9)[0])
    data = write_parquet(tmp_path / "x.parquet", [good, good[:60]])
    rows = far13(str(data), sets)["inversion"]
    with pytest.raises(DataError, match=r"far13 inversion from .*x.parquet: 1.png: the PNG image"):
        list(rows)


def test_what_training_produces_itself() -> None:
    def produced(**config: object) -> set[str]:
        return produced_by_training({"config": config})

    assert produced() == produced(shift=0, flip=False) == produced(shift=1, flip=True) == set()
    assert produced(shift=2) == produced(shift=4, flip=True) == {"shift-2"}
    assert {"shift-2"} < set(NAMES)
