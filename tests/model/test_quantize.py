"""8-bit pixels to grey levels and to the unit interval."""

from __future__ import annotations

import pytest
import torch

from model.quantize import as_input, bin_centres, dequantize, to_levels

ALL = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def test_levels_of_8_bit_images_are_their_bytes() -> None:
    assert torch.equal(to_levels(ALL, 256), ALL.long())


@pytest.mark.parametrize("levels", [2, 3, 16, 17, 100, 256])
def test_a_level_written_as_8_bits_comes_back(levels: int) -> None:
    level = torch.arange(levels)
    written = torch.round(level.double() * 255 / (levels - 1)).to(torch.uint8)
    assert torch.equal(to_levels(written, levels), level)


@pytest.mark.parametrize("levels", [2, 17, 255])
def test_the_nearest_level_is_taken(levels: int) -> None:
    exact = ALL.double() * (levels - 1) / 255
    assert (to_levels(ALL, levels) - exact).abs().max() <= 0.5


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bin_centres(levels: int) -> None:
    pixels = bin_centres(ALL, levels)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels.min().item(), 0.5 / levels)
    torch.testing.assert_close(pixels.max().item(), 1 - 0.5 / levels)
    assert torch.equal((pixels * levels).floor().long(), to_levels(ALL, levels))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_noise_stays_in_its_bin_and_is_not_clamped(levels: int) -> None:
    highest = 1 - 2**-24
    for value in (0.0, highest):
        noise = torch.full(ALL.shape, value)
        pixels = dequantize(ALL, levels, noise)
        torch.testing.assert_close(pixels * levels, to_levels(ALL, levels) + noise)
    spread = dequantize(ALL, levels, torch.zeros(ALL.shape)).unique()
    torch.testing.assert_close(spread, torch.arange(levels) / levels)
    white = torch.full((1, 1, 1, 2), 255, dtype=torch.uint8)
    pixels = dequantize(white, levels, torch.tensor([0.1, 0.9]).reshape(1, 1, 1, 2))
    assert pixels[..., 0] != pixels[..., 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int8])
def test_other_types_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"expected torch\.uint8"):
        to_levels(torch.zeros(1, 1, 2, 2, dtype=dtype), 256)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bin_centres_come_back_as_their_level(levels: int) -> None:
    written = torch.from_numpy(as_input((torch.arange(levels) + 0.5) / levels, levels))
    assert to_levels(written, levels).tolist() == list(range(levels))
    assert as_input(torch.tensor([-1.0, 2.0, float("nan")]), levels).tolist() == [0, 255, 0]
