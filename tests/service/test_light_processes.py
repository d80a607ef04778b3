"""Most processes of a service answer no image: they start, and come back, without a model."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service.grpc_api import SERVICER_FUNCTIONS

#: What proxies register beside what every worker of Ray runs.
PROXIES = (
    "service.worker",
    *(name.rpartition(".")[0] for name in SERVICER_FUNCTIONS if name.startswith("service.")),
)
TORCH = ("torch", "torchvision")
SLOW = (*TORCH, "pandas", "pyarrow", "scipy", "sklearn")


@pytest.mark.parametrize(
    ("module", "slow"), [*((name, SLOW) for name in PROXIES), ("service.central", TORCH)]
)
def test_it_needs_no_model(module: str, slow: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {slow} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
