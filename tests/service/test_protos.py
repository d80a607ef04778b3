import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from service.protos import oip_pb2, open_inference_pb2

ROOT = Path(__file__).resolve().parents[2]
#: Has no services, so no code for them.
MESSAGES_ONLY = "oip"


@pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed"
)
def test_generated_code_is_what_the_proto_gives(tmp_path: Path) -> None:
    committed = ROOT / "service/protos"
    for proto in committed.glob("*.proto"):
        kinds = ["python", "pyi"] + ["grpc_python"] * (proto.stem != MESSAGES_ONLY)
        outputs = [f"--{kind}_out={tmp_path}" for kind in kinds]
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs]
        subprocess.run([*command, f"service/protos/{proto.name}"], cwd=ROOT, check=True)
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "service/protos").iterdir()}
    generated = {path.name: path.read_bytes() for path in committed.glob("*_pb2*")}
    assert len(fresh) == 8
    assert fresh == generated


def test_messages_of_the_open_inference_protocol_have_a_package_of_their_own() -> None:
    """A stock client in the same process registers its own messages in ``inference``."""
    assert oip_pb2.DESCRIPTOR.package == "oodgate.oip.v2"
    assert not oip_pb2.DESCRIPTOR.services_by_name
    (service,) = open_inference_pb2.DESCRIPTOR.services_by_name.values()
    assert service.full_name == "inference.GRPCInferenceService"
    assert not open_inference_pb2.DESCRIPTOR.message_types_by_name
    for method in service.methods:
        for message in (method.input_type, method.output_type):
            assert message.full_name.startswith("oodgate.oip.v2.")
