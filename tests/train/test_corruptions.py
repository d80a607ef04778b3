"""The fifteen corruptions: chance, strength, closed forms."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy import ndimage

from model.image import UInt8Array
from train.corruptions.blur import _disc
from train.corruptions.digital import _covering
from train.corruptions.draws import Draws
from train.corruptions.fractal import clouds
from train.corruptions.kernels import blurred, motion_blurred, places, sampled
from train.corruptions.parameters import LARGE, PUBLISHED, SEVERITIES, SMALL, parameters
from train.evaluation.corruptions import CORRUPTIONS, corrupt

#: Whose published numbers do not distort more from each severity to the next: glass blurs less at
#: 3 than at 2, and an elastic plane moves less where pixels move more.
UNEVEN = ("glass_blur", "elastic_transform", "frost")


def scenes(count: int = 24, shape: tuple[int, int, int] = (3, 32, 32)) -> UInt8Array:
    """Smooth, coloured, of full contrast, as photographs are."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(count, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
    low, high = smooth.min((2, 3), keepdims=True), smooth.max((2, 3), keepdims=True)
    pixels: UInt8Array = np.rint((smooth - low) / (high - low) * 255).astype(np.uint8)
    return pixels


def distortion(images: UInt8Array, name: str, severity: int) -> float:
    found = corrupt(images, name, severity).astype(float)
    return float(np.sqrt(((found - images) ** 2).mean()))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 24, 40), (1, 8, 8), (1, 2, 3)])
def test_images_of_any_size_stay_images(name: str, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    for severity in SEVERITIES:
        found = corrupt(images, name, severity)
        assert found.dtype == np.uint8
        assert found.shape == images.shape


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_depends_on_its_number_and_the_seed_alone(name: str) -> None:
    images = scenes(6)
    whole = corrupt(images, name, 3, seed=5)
    np.testing.assert_array_equal(corrupt(images, name, 3, seed=5), whole)
    np.testing.assert_array_equal(corrupt(images[4:], name, 3, seed=5, first=4), whole[4:])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_chance_follows_the_seed(name: str) -> None:
    images = scenes(2)
    without = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate")
    same = np.array_equal(corrupt(images, name, 3, seed=1), corrupt(images, name, 3, seed=2))
    assert same == (name in (*without, "jpeg_compression"))


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in UNEVEN])
def test_a_higher_severity_distorts_more(name: str) -> None:
    images = scenes(48)
    found = [distortion(images, name, severity) for severity in SEVERITIES]
    assert found == sorted(found)
    assert found[-1] > 1.2 * found[0] > 0


@pytest.mark.parametrize("name", UNEVEN)
def test_the_others_distort_at_each_severity(name: str) -> None:
    assert min(distortion(scenes(48), name, severity) for severity in SEVERITIES) > 2


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_numbers_are_the_published_ones_at_their_sizes(name: str) -> None:
    small, large = PUBLISHED[name]
    for severity in SEVERITIES:
        assert parameters(name, severity, SMALL) == pytest.approx(small[severity - 1])
        assert parameters(name, severity, LARGE) == pytest.approx(large[severity - 1])
        assert parameters(name, severity, 8) == parameters(name, severity, SMALL)
        assert parameters(name, severity, 999) == pytest.approx(large[severity - 1])
        between = parameters(name, severity, 85)  # about the geometric mean
        middle = [
            (a + b) / 2 for a, b in zip(small[severity - 1], large[severity - 1], strict=True)
        ]
        assert between == pytest.approx(middle, rel=0.01, abs=0.01)


def test_unknown_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="corruption 'rain': expected one of gaussian_noise"):
        corrupt(scenes(1), "rain", 1)
    with pytest.raises(ValueError, match="severity 6: expected 1 to 5"):
        corrupt(scenes(1), "fog", 6)


GREY = np.full((64, 3, 32, 32), 128, dtype=np.uint8)


def test_gaussian_noise_has_its_deviation() -> None:
    found = corrupt(GREY, "gaussian_noise", 3).astype(float) / 255
    assert found.std() == pytest.approx(0.08, rel=0.02)


def test_shot_noise_has_the_variance_of_its_photons() -> None:
    found = corrupt(GREY, "shot_noise", 4).astype(float) / 255
    assert found.mean() == pytest.approx(128 / 255, rel=0.01)
    assert found.var() == pytest.approx(128 / 255 / 75, rel=0.03)


def test_impulse_noise_is_black_and_white_by_halves() -> None:
    found = corrupt(GREY, "impulse_noise", 5)
    assert (found == 0).mean() == pytest.approx(0.035, rel=0.05)
    assert (found == 255).mean() == pytest.approx(0.035, rel=0.05)
    assert set(np.unique(found)) == {0, 128, 255}


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_a_gaussian_blur_is_scipys(sigma: float) -> None:
    x = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(
        x.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=int(np.ceil(4 * sigma))
    )
    np.testing.assert_allclose(blurred(x, sigma).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("radius", "softness"), [(0.3, 0.4), (1.5, 0.1), (6, 0.5), (10, 0.5)])
def test_discs_sum_to_one_and_are_round(radius: float, softness: float) -> None:
    disc = _disc(radius, softness)
    assert disc.sum() == pytest.approx(1)
    torch.testing.assert_close(disc, disc.T)
    torch.testing.assert_close(disc, disc.flip(0))


def test_motion_smears_along_its_angle() -> None:
    x = torch.zeros(2, 1, 21, 21)
    x[..., 10, 10] = 1
    level, upright = motion_blurred(x, 4, 2.0, torch.tensor([0.0, 90.0]))
    assert (level[0].nonzero()[:, 0] == 10).all()
    assert (upright[0].nonzero()[:, 1] == 10).all()
    assert level.sum() == pytest.approx(1)
    assert len(level[0].nonzero()) > 4


def test_sampling_where_pixels_are_gives_them_back() -> None:
    x = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    rows, columns = (p.expand(2, -1, -1) for p in places(x))
    torch.testing.assert_close(sampled(x, rows, columns), x)


def test_glass_only_moves_pixels_where_nothing_is_blurred() -> None:
    images = scenes(2)
    found = corrupt(images, "glass_blur", 1)
    for before, after in zip(images, found, strict=True):
        tones = {tuple(p) for p in before.reshape(3, -1).T.tolist()}
        moved = np.array([tuple(p) in tones for p in after.reshape(3, -1).T.tolist()])
        assert moved.mean() > 0.99


def test_brightness_keeps_hue_and_saturation() -> None:
    images = scenes(4)
    found = corrupt(images, "brightness", 2)
    for i in range(0, 32, 5):
        before, after = (colorsys.rgb_to_hsv(*(x[0, :, i, i] / 255.0)) for x in (images, found))
        assert after[2] == pytest.approx(min(before[2] + 0.1, 1), abs=1 / 255)
        if before[2] > 0.2:
            assert after[:2] == pytest.approx(before[:2], abs=0.03)
    black = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    assert (corrupt(black, "brightness", 2) == round(0.1 * 255)).all()


def test_contrast_keeps_the_mean() -> None:
    images = scenes(4)
    found = corrupt(images, "contrast", 4).astype(float)
    np.testing.assert_allclose(found.mean((2, 3)), images.mean((2, 3)), atol=0.5)
    np.testing.assert_allclose(found.std((2, 3)), 0.3 * images.std((2, 3)), rtol=0.02)


def test_pixels_become_as_few_as_asked() -> None:
    found = corrupt(scenes(1), "pixelate", 5)[0]
    rows = np.unique(found.transpose(1, 0, 2).reshape(32, -1), axis=0)
    assert len(rows) == 20


def test_large_pixels_are_means_of_what_they_cover() -> None:
    np.testing.assert_allclose(_covering(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(_covering(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-6)
    for size, fewer in ((32, 24), (28, 26), (224, 56), (5, 1)):
        covering = _covering(size, fewer)
        torch.testing.assert_close(covering.sum(1), torch.ones(fewer))
        torch.testing.assert_close(covering.sum(0), torch.full((size,), fewer / size))


def test_jpeg_is_pillows() -> None:
    image = scenes(1)[0]
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=58)
    expected = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    np.testing.assert_array_equal(corrupt(image[None], "jpeg_compression", 3)[0], expected)


def test_elastic_without_noise_moves_a_plane_as_its_corners() -> None:
    """At severity 1 of 32 pixels no pixel moves by itself: a ramp stays one."""
    ramp: npt.NDArray[np.uint8] = np.tile(np.arange(64, 192, 4, dtype=np.uint8), (1, 1, 32, 1))
    middle = corrupt(ramp, "elastic_transform", 1)[0, 0, 12:20, 12:20].astype(float)
    assert np.abs(np.diff(middle, 2, axis=0)).max() <= 1
    assert np.abs(np.diff(middle, 2, axis=1)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (5, 40), (1, 1)])
def test_clouds_fill_their_range_and_their_images(height: int, width: int) -> None:
    found = clouds(Draws(0, 0, 3), height, width, 2.0)
    assert found.shape == (3, 1, height, width)
    assert found.min() >= 0
    assert found.max() <= 1


def test_clouds_of_slower_decay_are_rougher() -> None:
    def roughness(decay: float) -> float:
        return float(clouds(Draws(0, 0, 16), 32, 32, decay).diff(dim=3).abs().mean())

    assert roughness(1.5) > roughness(2.0) > roughness(3.0)


def test_fog_keeps_the_brightest_pixel_within_range() -> None:
    images = scenes(4)
    for severity in SEVERITIES:
        assert corrupt(images, "fog", severity).max() <= images.max()
