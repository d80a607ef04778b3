import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed"
)
def test_generated_code_is_what_the_proto_gives(tmp_path: Path) -> None:
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I."]
    command += [*outputs, "service/protos/classifier.proto"]
    subprocess.run(command, cwd=ROOT, check=True)
    fresh = sorted((tmp_path / "service/protos").iterdir())
    assert len(fresh) == 3
    for path in fresh:
        assert path.read_bytes() == (ROOT / "service/protos" / path.name).read_bytes()
