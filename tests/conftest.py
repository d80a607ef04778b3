"""What several rooms test on: double precision, and one small model made by the real commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from service.bundle import Bundle
from service.cli.calibrate import calibrate
from train.config import TrainConfig
from train.run import train_new


@pytest.fixture
def float64() -> Iterator[None]:
    """New tensors are of double precision, so that laws hold to rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the digits: a few epochs, far from good and enough to be real."""
    out = tmp_path_factory.mktemp("trained") / "digits"
    config = TrainConfig(
        recipe="digits", data="digits", epochs=4, batch_size=64, learning_rate=3e-3
    )
    assert train_new(config, out).finished
    return out


@pytest.fixture(scope="session")
def bundle_dir(checkpoint_dir: Path) -> Path:
    """The run, calibrated on its held-out rows and sealed; read only, copy it to change it."""
    out = checkpoint_dir.parent / "bundles" / "digits-1"
    calibrate(source=str(checkpoint_dir), data="digits", out=out)
    return out


@pytest.fixture(scope="session")
def bundle(bundle_dir: Path) -> Bundle:
    """The bundle, loaded; on the CPU in evaluation mode."""
    return Bundle.load(bundle_dir)
