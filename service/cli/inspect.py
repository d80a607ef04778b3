"""``oodgate inspect``: bundle -> card, or which rows of a data set the bundle knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.arguments import BundleArgument, BundlesOption
from train.cli import DATA_HELP

if TYPE_CHECKING:
    from calibration.calibration import Calibration
    from service.bundle import Bundle

#: Columns of the names on a card.
WIDTH = 14


def inspect(
    bundle: BundleArgument,
    bundles: BundlesOption = None,
    check: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="Instead of the card: how many rows of DATA the bundle was trained, fitted or "
            f"calibrated on, now or before. {DATA_HELP}",
        ),
    ] = "",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="The manifest as it is sealed, or the counts, for programs."),
    ] = False,
) -> None:
    """Verify a bundle's hashes and print its card: what it knows, promises, and comes from.

    The hashes find a damaged file, not a forged bundle. --check finds exact copies of rows, by
    content hash: an image that differs in one pixel is new.
    """
    from service.bundle import Bundle
    from service.catalog import find_bundle

    loaded = Bundle.load(find_bundle(bundle, bundles))
    if check:
        found = known_rows(loaded, check)
        typer.echo(json.dumps(found) if as_json else _aligned(_check_lines(found)))
    else:
        typer.echo(loaded.manifest.to_bytes().decode().rstrip() if as_json else card(loaded))


def known_rows(bundle: Bundle, data: str) -> dict[str, Any]:
    """How many ``rows`` DATA has, how many are known from ``train``, ``fit``, ``cal`` or ``new``.

    ``kept``: fit and calibration rows of the earlier calibration that temperature and prediction
    sets are from; ``ancestor``: rows that trained the model which training started from, and not
    this one. A row that is in two parts counts in both. ``init``: that model where its rows are
    not, or not all of them, in the bundle's record; else None.
    """
    from train.ancestor import recorded_fully
    from train.data import open_data
    from train.images import load_images
    from train.progress import watch

    images = load_images(open_data(data), bundle.spec, None, watch)
    training = bundle.manifest.training
    return {
        "name": bundle.name,
        "version": bundle.version,
        "data": data,
        "rows": len(images),
        **bundle.rows.found_among(images.digests),
        "init": None if recorded_fully(training) else _started_from(training),
    }


def _started_from(training: Mapping[str, Any]) -> str | None:
    """The model that training started from: name and version of a bundle, else where it was."""
    origin = training.get("init") or {}
    if origin.get("name"):
        return f"{origin['name']}@{origin['version']}"
    found: str | None = training["config"].get("init")
    return found


def _check_lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("bundle", f"{found['name']} {found['version']}"),
        ("data", f"{found['data']}: {found['rows']:,} rows"),
        ("trained on", f"{found['train']:,}"),
        ("fitted on", f"{found['fit']:,}"),
        ("calibrated on", f"{found['cal']:,}"),
    ]
    if found["kept"]:
        lines.append(("fitted earlier", f"{found['kept']:,}, for temperature and prediction sets"))
    if found["ancestor"]:
        trained = f"{found['ancestor']:,}, of the model that training started from"
        lines.append(("trained before", trained))
    lines.append(("new", f"{found['new']:,}"))
    if found["init"]:
        unknown = "rows of models before" if found["ancestor"] else "the rows of"
        lines.append(("not checked", f"{unknown} {found['init']}, which training started from"))
    return lines


def card(bundle: Bundle) -> str:
    """The card, for people."""
    return _aligned([*_origin(bundle), *_promises(bundle)])


def _aligned(lines: list[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<{WIDTH}} {text}" for name, text in lines)


def _origin(bundle: Bundle) -> list[tuple[str, str]]:
    """What the model is and what it was made from."""
    from train.left_out import left_out_of

    manifest, training = bundle.manifest, bundle.manifest.training
    parameters = sum(p.numel() for p in bundle.checkpoint.classifier.parameters())
    counts = ", ".join(f"{rows:,} {part}" for part, rows in bundle.rows.counts().items())
    data, left_out = manifest.data, left_out_of(training)
    return [
        ("name", manifest.name),
        ("version", bundle.version),
        ("created", f"{manifest.created}, commit {manifest.git_commit or 'unknown'}"),
        ("classes", f"{len(manifest.classes)}: {', '.join(manifest.classes)}"),
        *([("left out", ", ".join(left_out))] if left_out else []),
        ("input", f"{' x '.join(map(str, manifest.input_shape))}, {manifest.levels} grey levels"),
        ("preprocessing", json.dumps(dict(manifest.preprocessing))),
        ("model", f"{parameters:,} parameters, {manifest.dtype}"),
        ("training", _training(training)),
        ("last epoch", _last_epoch(bundle)),
        ("data", f"trained on {data['training']}, calibrated on {data['calibration']}"),
        ("rows", counts),
    ]


def _training(training: Mapping[str, Any]) -> str:
    settings, progress = training["config"], training["progress"]
    before = (training.get("init") or {}).get("seconds")
    begun = f", begun with a model of {before:.0f} s" if before else ""
    return (
        f"recipe {settings['recipe']}, beta {settings['beta']} (beta x D "
        f"{training['beta_times_dim']}), seed {settings['seed']}, {settings['epochs']} epochs "
        f"in {progress['seconds']:.0f} s on {training['device']}{begun}"
    )


def _last_epoch(bundle: Bundle) -> str:
    if not bundle.history:
        return "not recorded"
    return json.dumps(_rounded(dict(bundle.history[-1])))


def _promises(bundle: Bundle) -> list[tuple[str, str]]:
    """What it was calibrated to hold, and its figures."""
    manifest, calibration = bundle.manifest, bundle.calibration
    from service.cli.promise import promise

    flow, posterior = bundle.checkpoint.classifier.config, calibration.posterior
    return [
        ("promise", promise(calibration)),
        (
            "posterior",
            f"{posterior.method} scaling, temperature {posterior.temperature:.3f}; "
            f"{posterior.set_level:.0%} prediction sets ({posterior.set_method}) with q_hat "
            f"{posterior.q_hat:.3f}"
            + (", kept from an earlier calibration" if calibration.posterior_borrowed else ""),
        ),
        (
            "score",
            f"{len(calibration.combined.names)} statistics as one, fitted on "
            f"{calibration.combined.rows:,} rows{_copies(calibration)}",
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


def _copies(calibration: Calibration) -> str:
    from calibration.posterior import rows_of

    count = int(rows_of(calibration.table, "outlier").sum())
    return f" and {count:,} distorted copies of them" if count else ""
