"""``oodgate deploy``: another bundle into a service that runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.arguments import BundlesOption


def deploy(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="BUNDLE",
            help="The bundle that is to answer in place of the one of its name: a folder, or a "
            "name that the service knows. For another machine's service, as that machine has it.",
        ),
    ] = None,
    url: Annotated[
        str, typer.Option(help="The service.", envvar="OODGATE_URL")
    ] = "http://127.0.0.1:8000",
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="See images and count decisions, but answer nobody yet."),
    ] = False,
    share: Annotated[
        float, typer.Option(help="Of the requests that a shadow sees, above 0 and up to 1.")
    ] = 1.0,
    end_shadow: Annotated[
        str | None, typer.Option(metavar="NAME", help="End the shadow of the model NAME.")
    ] = None,
    ca_cert: Annotated[
        str | None, typer.Option(help="Certificates to trust (PEM), for a service of its own CA.")
    ] = None,
    bundles: BundlesOption = None,
) -> None:
    """Swap a bundle, roll back, or compare one in shadow; without BUNDLE, tell what is served.

    Every replica loads, warms and tests the new bundle beside the old one, then all swap; no
    request is lost. A bundle that is refused changes nothing. Rolling back is deploying the bundle
    from before. Keep the folder: a replica that starts again reads it. The admin key is read from
    $OODGATE_ADMIN_KEY; for a service that this user started on this machine none is needed.
    """
    from service.admin_client import AdminClient, resolved

    client = AdminClient(url, ca_cert)
    if client.in_plain_text:
        typer.echo(
            "warning: the admin key goes over the network in plain text: use https", err=True
        )
    if end_shadow is not None:
        _tell(client.end_shadow(end_shadow))
    elif bundle is None:
        _tell(client.state())
    else:
        found = client.deploy(resolved(bundle, url, bundles), shadow, share)
        name, version = found["model"]["name"], found["model"]["version"]
        verb = "sees the images of" if shadow else "answers in place of"
        typer.echo(
            f"{name} {version} {verb} {found['previous']} on {found['replicas']} replica(s), after "
            f"{found['seconds']:.1f} s"
        )
        if found["behind"]:
            typer.echo(f"{found['behind']} replica(s) are behind and will follow", err=True)


def _tell(state: dict[str, Any]) -> None:
    for model in state["models"]:
        typer.echo(f"{model['name']} {model['version']}  {model['path']}")
    for shadow in state["shadows"]:
        typer.echo(
            f"shadow of {shadow['name']}: {shadow['version']}, {shadow['share']:.0%} of requests, "
            f"{shadow['images']} images"
        )
        for row in shadow["decisions"]:
            same = "same class" if row["same_class"] else "another class"
            typer.echo(f"  live {row['live']:8} shadow {row['shadow']:8} {same}: {row['images']}")
    typer.echo(f"{state['replicas']} replica(s)")
