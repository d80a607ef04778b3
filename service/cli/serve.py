"""``oodgate serve``: bundles -> HTTP + gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.arguments import BundlesOption


def serve(
    bundle: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE...",
            help="Folders of bundles, or their names: looked up in --bundles, $OODGATE_BUNDLES and "
            "the bundles that ship. The first one answers requests that name no model.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to serve on; other than loopback only with API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="HTTP.", min=1, max=65535)] = 8000,
    grpc_port: Annotated[int, typer.Option(help="gRPC.", min=1, max=65535)] = 8001,
    replicas: Annotated[int, typer.Option(help="Copies of the model.", min=1)] = 1,
    num_gpus: Annotated[
        float | None, typer.Option(help="GPUs of a replica; default: a share of those there are.")
    ] = None,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile/--no-compile",
            help="By torch.compile: faster single images, for minutes of start-up.",
        ),
    ] = False,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            help="File of API keys, one a line, read again when it changes; keys may also be in "
            "$OODGATE_API_KEYS, comma-separated. With keys, only health, metrics and docs are open."
        ),
    ] = None,
    admin_keys: Annotated[
        Path | None,
        typer.Option(
            help="File of keys for `oodgate deploy`, or $OODGATE_ADMIN_KEYS; without, one is drawn "
            "that this user's `oodgate deploy` on this machine finds by itself."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM): HTTPS; behind HAProxy gRPC, too.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name that a request may ask for (Host), or *.NAME; may be repeated. Default: "
            "on loopback localhost and its addresses, elsewhere any."
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose pages may ask from a browser; may be repeated."),
    ] = None,
    access_log: Annotated[
        str, typer.Option(help="A line of JSON a request: to stdout, none, or a file.")
    ] = "stdout",
    quarantine: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps rejected images with their verdicts, newest last."),
    ] = None,
    quarantine_files: Annotated[
        int, typer.Option(help="Files kept there; the oldest go first.", min=2)
    ] = 2_000,
    quarantine_mb: Annotated[int, typer.Option(help="Megabytes kept there.", min=1)] = 256,
    drift_days: Annotated[
        float, typer.Option(help="Alarms of drift: without any drift one in so many days,")
    ] = 30.0,
    drift_rate: Annotated[
        float, typer.Option(help="at so many images a second, for each model.")
    ] = 100.0,
    monitor: Annotated[bool, typer.Option(help="Count for /metrics, and look for drift.")] = True,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve to other machines without authentication.")
    ] = False,
    haproxy: Annotated[
        bool, typer.Option(help="HAProxy in front; otherwise Ray Serve's Python proxy.")
    ] = True,
    bundles: BundlesOption = None,
) -> None:
    """Answer images with class, posterior, p-value and decision, until Ctrl-C.

    HTTP: POST /v1/classify, the Open Inference Protocol below /v2, /docs, /healthz, /readyz,
    /metrics. gRPC: oodgate.v1.Classifier, inference.GRPCInferenceService, grpc.health.v1. What is
    served is exchanged while it runs by `oodgate deploy`.
    """
    from calibration.drift import AlarmBudget
    from service.catalog import find_bundle
    from service.startup import StartupError

    try:
        from service.cluster import Tls
        from service.serve import Where
        from service.serve import serve as run
    except ModuleNotFoundError as error:
        raise StartupError(
            f"serving needs the package {error.name}: install oodgate with its 'serve' extra"
        ) from error
    AlarmBudget(days=drift_days, rate=drift_rate)  # refused before anything starts
    if (tls_cert is None) != (tls_key is None):
        raise StartupError("--tls-cert and --tls-key go together: pass both or none")
    tls = None if tls_cert is None or tls_key is None else Tls(certificate=tls_cert, key=tls_key)
    options = {
        "compile": compile_,
        "api_keys_file": api_keys and api_keys.resolve(),
        "admin_keys_file": admin_keys and admin_keys.resolve(),
        "drift_days": drift_days,
        "drift_rate": drift_rate,
        "monitor": monitor,
        "cors_origins": tuple(cors_origin or ()),
        "quarantine": quarantine and quarantine.resolve(),
        "quarantine_files": quarantine_files,
        "quarantine_bytes": quarantine_mb * 1_000_000,
    }
    if allowed_host:
        options["allowed_hosts"] = tuple(allowed_host)
    run(
        [find_bundle(name, bundles) for name in bundle],
        Where(
            host=host, port=port, grpc_port=grpc_port, haproxy=haproxy, insecure=insecure, tls=tls
        ),
        replicas=replicas,
        num_gpus=num_gpus,
        access_log=access_log,
        options=options,
    )
