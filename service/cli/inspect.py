"""``oodgate inspect``: bundle -> card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.arguments import BundleArgument, BundlesOption

if TYPE_CHECKING:
    from service.bundle import Bundle


def inspect(
    bundle: BundleArgument,
    bundles: BundlesOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The manifest as it is sealed, for programs.")
    ] = False,
) -> None:
    """Verify a bundle's hashes and print its card: what it knows, promises, and comes from.

    The hashes find a damaged file, not a forged bundle.
    """
    from service.bundle import Bundle
    from service.catalog import find_bundle

    loaded = Bundle.load(find_bundle(bundle, bundles))
    typer.echo(loaded.manifest.to_bytes().decode().rstrip() if as_json else card(loaded))


def card(bundle: Bundle) -> str:
    """The card, for people."""
    width = 14
    return "\n".join(f"{name:<{width}} {text}" for name, text in _lines(bundle))


def _lines(bundle: Bundle) -> list[tuple[str, str]]:
    manifest, calibration = bundle.manifest, bundle.calibration
    flow = bundle.checkpoint.classifier.config
    training, data = manifest.training, manifest.data
    settings, progress = training["config"], training["progress"]
    parameters = sum(p.numel() for p in bundle.checkpoint.classifier.parameters())
    counts = ", ".join(f"{rows:,} {part}" for part, rows in bundle.rows.counts().items())
    return [
        ("name", manifest.name),
        ("version", bundle.version),
        ("created", f"{manifest.created}, commit {manifest.git_commit or 'unknown'}"),
        ("classes", f"{len(manifest.classes)}: {', '.join(manifest.classes)}"),
        ("input", f"{' x '.join(map(str, manifest.input_shape))}, {manifest.levels} grey levels"),
        ("preprocessing", json.dumps(dict(manifest.preprocessing))),
        ("model", f"{parameters:,} parameters, {manifest.dtype}"),
        (
            "training",
            f"recipe {settings['recipe']}, beta {settings['beta']} (beta x D "
            f"{training['beta_times_dim']}), seed {settings['seed']}, {settings['epochs']} epochs "
            f"in {progress['seconds']:.0f} s on {training['device']}",
        ),
        ("data", f"trained on {data['training']}, calibrated on {data['calibration']}"),
        ("rows", counts),
        (
            "promise",
            f"at most {calibration.alpha:.2%} of typical images rejected, with confidence "
            f"{1 - calibration.delta:.2%}: reject at p <= {calibration.threshold():.5f} among "
            f"{calibration.reference_size:,} reference rows ({calibration.mode})",
        ),
        (
            "posterior",
            f"temperature {calibration.temperature:.3f}, {calibration.set_level:.0%} prediction "
            f"sets with q_hat {calibration.q_hat:.3f}"
            + (", kept from an earlier calibration" if calibration.posterior_borrowed else ""),
        ),
        ("metrics", json.dumps(_rounded(dict(manifest.metrics)))),
        ("flow", json.dumps(flow.to_dict()["stages"])),
    ]


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    return value
