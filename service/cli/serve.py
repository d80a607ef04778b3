"""``oodgate serve``: bundle -> HTTP + gRPC."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.arguments import BundleArgument, BundlesOption


def serve(
    bundle: BundleArgument,
    host: Annotated[
        str, typer.Option(help="Address to serve on; other than loopback only with --insecure.")
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
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve to other machines without authentication.")
    ] = False,
    haproxy: Annotated[
        bool, typer.Option(help="HAProxy in front; otherwise Ray Serve's Python proxy.")
    ] = True,
    bundles: BundlesOption = None,
) -> None:
    """Answer each image with class, posterior, p-value and decision, until Ctrl-C.

    HTTP: POST /v1/classify, /docs, /healthz, /readyz, /metrics. gRPC: oodgate.v1.Classifier and
    grpc.health.v1.
    """
    from service.catalog import find_bundle

    try:
        from service.serve import serve as run
    except ModuleNotFoundError as error:
        from service.startup import StartupError

        raise StartupError(
            f"serving needs the package {error.name}: install oodgate with its 'serve' extra"
        ) from error
    run(
        find_bundle(bundle, bundles),
        host=host,
        port=port,
        grpc_port=grpc_port,
        replicas=replicas,
        num_gpus=num_gpus,
        options={"compile": compile_},
        insecure=insecure,
        haproxy=haproxy,
    )
