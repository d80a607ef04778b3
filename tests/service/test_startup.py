import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from model.compiling import CompilerError
from service import cluster, processes, startup
from service.bundle import Bundle
from service.config import ServiceConfig
from service.predictor import Predictor
from service.serve import Where, serve
from service.startup import StartupError, check_ports, check_tls, checked_host, free_ports


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_hosts_are_refused_without_keys_unless_insecure(host: str) -> None:
    with pytest.raises(StartupError, match=r"pass --api-keys FILE .* or pass --insecure to let"):
        checked_host(host, insecure=False, keys=False)
    assert checked_host(host, insecure=True, keys=False) == host
    assert checked_host(host, insecure=False, keys=True) == host


def test_loopback_is_open() -> None:
    assert checked_host("localhost", insecure=False, keys=False) == "127.0.0.1"


def test_a_busy_port_is_named_with_its_flag() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = holder.getsockname()[1]
        (free,) = free_ports(1)
        with pytest.raises(StartupError, match=rf"port {busy} .*--port"):
            check_ports("127.0.0.1", busy, free)
        with pytest.raises(StartupError, match=rf"port {busy} .*--grpc-port"):
            check_ports("127.0.0.1", free, busy)
        with pytest.raises(StartupError, match="choose two"):
            check_ports("127.0.0.1", free, free)


def test_chosen_ports_are_free_different_and_not_of_the_kernel_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port of the kernel's range may be another's by the time that it is bound."""
    for lowest, allowed in ((32_768, range(20_000, 30_000)), (24_000, range(20_000, 24_000))):
        (tmp_path / "range").write_text(f"{lowest}\t60999\n")
        monkeypatch.setattr(startup, "_KERNEL_RANGE", tmp_path / "range")
        chosen = free_ports(50)
        assert len(set(chosen)) == 50
        assert set(chosen) <= set(allowed)


@pytest.mark.parametrize("text", ["1024 65535", None])
def test_ports_are_chosen_where_the_kernel_keeps_none_back(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text:
        (tmp_path / "range").write_text(text)
    monkeypatch.setattr(startup, "_KERNEL_RANGE", tmp_path / "range")
    assert len(set(free_ports(6))) == 6


def test_too_few_free_ports_are_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        taken, free = free_ports(2)
        holder.bind(("127.0.0.1", taken))
        monkeypatch.setattr(startup, "_unasked_for", lambda: [taken, free])
        with pytest.raises(StartupError, match=f"2 free ports .* 1 of {taken} to {free} are free"):
            free_ports(2)
        assert free_ports(1) == [free]


def test_a_service_that_cannot_compile_is_refused_before_ray(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(cluster, "start_ray", pytest.fail)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    port, grpc_port = free_ports(2)
    with pytest.raises(StartupError, match=r"^torch.compile on cpu fails \(No working[^\n]*out$"):
        serve(
            [bundle_dir],
            Where(port=port, grpc_port=grpc_port),
            num_gpus=0,
            access_log="none",
            options={"compile": True},
        )


def test_a_replica_that_cannot_compile_says_so_first(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(device: torch.device) -> None:
        raise CompilerError(f"none for {device}")

    monkeypatch.setattr("service.predictor.check_compiler", fail)
    with pytest.raises(CompilerError, match="none for cpu"):
        Predictor(bundle, "cpu", compiled=True)


def test_descendants_are_found_and_ended() -> None:
    nested = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True);"
    nested += "sys.stdin.read()"
    command = [sys.executable, "-c", nested]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        below = processes.descendants(os.getpid())
        ours = {process for process in below if process.pid in (child.pid, grandchild)}
        assert len(ours) == 2
        processes.end(ours, grace_s=0)
        assert not any(processes.alive(process) for process in ours)


def test_a_reused_id_is_another_process() -> None:
    me = next(p for p in processes.descendants(os.getppid()) if p.pid == os.getpid())
    assert processes.alive(me)
    assert not processes.alive(me._replace(started=me.started + 1))


def test_haproxy_waits_for_a_client_only_a_little_longer_than_the_service(tmp_path: Path) -> None:
    """Its own hour lets half-sent requests hold all of its connections."""
    config = ServiceConfig(bundles=(tmp_path,), read_timeout_s=2.5)
    settings = cluster.environment(config, tmp_path, "127.0.0.1", 8001, haproxy=True)
    assert 2.5 < float(settings["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"]) < 10


@pytest.mark.parametrize("damage", ["none", "no text", "no file", "another key", "encrypted"])
def test_a_certificate_that_cannot_be_served_is_refused(tmp_path: Path, damage: str) -> None:
    authority = trustme.CA()
    issued, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    signer = other if damage == "another key" else issued
    signer.private_key_pem.write_to_path(str(key))
    if damage == "no text":
        certificate.write_bytes(bytes(range(256)))
    elif damage == "no file":
        key.unlink()
    elif damage == "encrypted":
        private = load_pem_private_key(key.read_bytes(), None)
        locked = BestAvailableEncryption(b"a secret")
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    if damage == "none":
        check_tls(certificate, key)
        return
    with pytest.raises(StartupError, match=r"--tls-cert .*cert\.pem, --tls-key .*in PEM"):
        check_tls(certificate, key)
