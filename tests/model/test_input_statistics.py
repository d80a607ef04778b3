"""Statistics of the pixels: each against its definition, and the same whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn, idctn
from scipy.stats import entropy

from model.image import UInt8Array
from model.input_statistics import RINGS, input_statistics

FLOOR = np.log(1e-3)


def noise(*shape: int) -> UInt8Array:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def grey(plane: object) -> UInt8Array:
    """One image (1, 1, H, W)."""
    return np.asarray(plane, dtype=np.uint8)[None, None]


IMAGES = {
    "constant": np.full((1, 1, 8, 8), 7, np.uint8),
    "stripes": grey(np.tile([0, 255], (6, 4))),
    "two values": np.where(noise(1, 1, 28, 28) < 80, 0, 255).astype(np.uint8),
    "random": noise(1, 1, 28, 28),
    "colour": noise(1, 3, 9, 12),
}


@pytest.mark.parametrize("name", IMAGES)
def test_complexity_is_an_entropy(name: str) -> None:
    image = IMAGES[name]
    differences = np.diff(image.astype(int), axis=3) % 256
    counts = np.bincount(differences.ravel(), minlength=256)
    found = input_statistics(image)["input_complexity"]
    assert found.shape == (1,)
    assert found[0] == pytest.approx(entropy(counts, base=2), abs=1e-12)


def test_complexity_of_what_is_known_without_counting() -> None:
    assert input_statistics(IMAGES["constant"])["input_complexity"][0] == 0
    # differences 255 and 1, four and three of each row's seven
    share = 4 / 7
    bits = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert input_statistics(IMAGES["stripes"])["input_complexity"][0] == pytest.approx(bits)
    assert 7.9 < input_statistics(noise(1, 1, 128, 128))["input_complexity"][0] <= 8


@pytest.mark.parametrize("name", IMAGES)
def test_grey_levels_borders_and_variation(name: str) -> None:
    x = IMAGES[name].astype(np.float64)
    found = {key.removeprefix("input_"): v[0] for key, v in input_statistics(IMAGES[name]).items()}
    expected = {
        "mean": x.mean(),
        "min": x.min(),
        "max": x.max(),
        "variation_columns": np.abs(np.diff(x, axis=-1)).mean(),
        "variation_rows": np.abs(np.diff(x, axis=-2)).mean(),
        "top": x[..., :2, :].mean(),
        "bottom": x[..., -2:, :].mean(),
        "left": x[..., :2].mean(),
        "right": x[..., -2:].mean(),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_rows_and_columns_are_told_apart() -> None:
    vertical = {name: v[0] for name, v in input_statistics(IMAGES["stripes"]).items()}
    assert vertical["input_variation_columns"] == 255
    assert vertical["input_variation_rows"] == 0
    frame = np.zeros((10, 10))
    frame[:2] = 100
    found = {name: v[0] for name, v in input_statistics(grey(frame)).items()}
    borders = [found[f"input_{side}"] for side in ("top", "bottom", "left", "right")]
    assert borders == [100, 0, 20, 20]


def test_bands_hold_all_energy_but_the_constant_s() -> None:
    """Parseval: mean squares times the members of each ring are the variance of the pixels."""
    image = noise(1, 3, 20, 24)
    plane = image[0].mean(axis=0)
    u, v = np.meshgrid(np.arange(20) / 20, np.arange(24) / 24, indexing="ij")
    ring = np.searchsorted(RINGS, np.hypot(u, v) / np.sqrt(2), side="right")
    ring[0, 0] = -1
    members = [(ring == i).sum() for i in range(len(RINGS))]
    found = input_statistics(image)
    bands = [np.exp(found[f"input_band_{i + 1}"][0]) for i in range(len(RINGS))]
    assert sum(members) == 20 * 24 - 1
    assert np.dot(bands, members) == pytest.approx(((plane - plane.mean()) ** 2).sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("frequency", "band"), [((1, 0), 1), ((0, 3), 2), ((5, 3), 3), ((0, 20), 5), ((31, 31), 6)]
)
def test_a_cosine_is_in_its_ring(frequency: tuple[int, int], band: int) -> None:
    """On 32 x 32 pixels; what rounding to grey levels makes is far below."""
    coefficients = np.zeros((32, 32))
    coefficients[frequency] = 1000
    coefficients[0, 0] = 32 * 128
    found = input_statistics(grey(np.rint(idctn(coefficients, norm="ortho"))))
    bands = {i: found[f"input_band_{i}"][0] for i in range(1, 7)}
    assert max(bands, key=lambda i: bands[i]) == band
    others = [value for i, value in bands.items() if i != band]
    assert bands[band] > max(others) + 4


def test_bands_are_of_the_dct() -> None:
    image = noise(1, 1, 16, 16)
    energy = dctn(image[0, 0].astype(np.float64), norm="ortho") ** 2
    radius = np.hypot(*np.meshgrid(np.arange(16), np.arange(16))) / 16 / np.sqrt(2)
    outer = energy[radius >= RINGS[4]].mean()
    assert input_statistics(image)["input_band_6"][0] == pytest.approx(np.log(outer), abs=1e-6)


def test_chroma_is_of_colour_images_only() -> None:
    assert "input_chroma" not in input_statistics(noise(2, 1, 8, 8))
    plane = noise(1, 1, 8, 8)
    found = input_statistics(np.concatenate([np.repeat(plane, 3, axis=1), noise(1, 3, 8, 8)]))
    chroma = found["input_chroma"]
    assert chroma[0] == pytest.approx(FLOOR)
    assert chroma[1] > 5
    red = np.zeros((1, 3, 8, 8), np.uint8)
    red[:, 0] = 90  # grey 30: squares 60^2, 30^2 and 30^2
    assert input_statistics(red)["input_chroma"][0] == pytest.approx(np.log(1800), abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_narrowest_images_have_statistics(shape: tuple[int, int], channels: int) -> None:
    images = noise(3, channels, *shape)
    found = input_statistics(images)
    assert all(value.shape == (3,) for value in found.values())
    assert all(value.dtype == np.float64 for value in found.values())
    assert all(np.isfinite(value).all() for value in found.values())
    if 1 in shape:
        narrow = "rows" if shape[0] == 1 else "columns"
        assert not found[f"input_variation_{narrow}"].any()
    if shape[1] == 1:
        assert not found["input_complexity"].any()


def test_names_depend_on_the_shape_only() -> None:
    for shape in ((1, 8, 8), (3, 28, 28)):
        blank = np.zeros((2, *shape), np.uint8)
        assert list(input_statistics(blank)) == list(input_statistics(noise(1, *shape)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8)])
def test_an_image_has_the_same_bits_in_any_company(shape: tuple[int, int, int]) -> None:
    images = noise(64, *shape)
    together, again = input_statistics(images), input_statistics(images)
    for size in (1, 7):
        parts = [input_statistics(images[i : i + size]) for i in range(0, 64, size)]
        for name, values in together.items():
            np.testing.assert_array_equal(values, again[name], err_msg=name)
            np.testing.assert_array_equal(
                values, np.concatenate([part[name] for part in parts]), err_msg=name
            )


def test_pixels_are_not_changed() -> None:
    images = noise(2, 3, 8, 8)
    before = images.copy()
    input_statistics(images)
    np.testing.assert_array_equal(images, before)
