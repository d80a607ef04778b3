"""``oodgate score``: bundle or checkpoint + images -> verdict table."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.arguments import BundlesOption
from train.cli import DATA_HELP

if TYPE_CHECKING:
    from service.pushgateway import Gateway
    from service.scorer import Scorer
    from service.verdict_table import ScoredRow


def score(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle's folder or name, or a checkpoint's folder: that gives scores only.",
        ),
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Folder of the table; must be empty or not exist.")],
    local: Annotated[
        bool, typer.Option("--local", help="In this process, without Ray; the only way so far.")
    ] = False,
    alpha: Annotated[float | None, typer.Option(help="Instead of the bundle's.")] = None,
    statistics: Annotated[
        bool, typer.Option(help="Write the stat_* columns.", show_default=True)
    ] = True,
    labels: Annotated[
        bool, typer.Option(help="Match labels to the model's classes; strangers have none.")
    ] = True,
    metrics_pushgateway: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="OODGATE_METRICS_PUSHGATEWAY",
            help="Push the metrics that a service has to a Prometheus Pushgateway while this runs: "
            "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT.",
        ),
    ] = None,
    metrics_job: Annotated[
        str, typer.Option(metavar="NAME", help="Their label job.")
    ] = "oodgate-score",
    metrics_instance: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Their label instance: a run replaces what an earlier one of the same names has "
            "pushed. Default: this machine's name and OUT's path.",
        ),
    ] = None,
    bundles: BundlesOption = None,
) -> None:
    """Score every image of DATA into a Parquet table of verdicts.

    An image that cannot be decoded is a row with its error, never a failed job.
    """
    from service.scorer import open_scorer, prepare_folder, score_rows
    from train.data import DataError, match_labels, open_data
    from train.images import known_label
    from train.progress import Progress

    if not local:
        raise DataError("score without --local is not there yet: add --local")
    gateway = None
    if metrics_pushgateway is not None:
        gateway = _gateway(metrics_pushgateway, metrics_job, metrics_instance, out)
    prepare_folder(out)
    scorer = open_scorer(bundle, bundles, alpha, statistics)
    rows = open_data(data)
    index = None
    if labels and rows.class_labels is not None:
        index = match_labels(rows.class_labels, scorer.class_labels)
    inputs = ((row.id, row.image, known_label(row, index)) for row in rows)
    with _counting(gateway, scorer) as count, Progress("scoring", len(rows)) as progress:
        outcomes = score_rows(scorer, inputs, out, progress.advance, count)
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    typer.echo(f"{out}: {outcomes.total():,} rows: {counts}")


def _gateway(url: str, job: str, instance: str | None, out: Path) -> Gateway:
    from service.startup import StartupError

    try:
        from service.pushgateway import Gateway
    except ModuleNotFoundError as error:
        raise StartupError(
            f"--metrics-pushgateway needs the package {error.name}: install oodgate with its "
            "'serve' extra"
        ) from error
    if instance is None:
        instance = f"{socket.gethostname()}:{out.resolve()}"
    return Gateway.at(url, job, instance)


@contextlib.contextmanager
def _counting(
    gateway: Gateway | None, scorer: Scorer
) -> Iterator[Callable[[Sequence[ScoredRow]], None]]:
    """What is to be given the rows of each batch."""
    if gateway is None:
        yield lambda _: None
        return
    from service.pushgateway import JobMetrics
    from train.progress import say

    with JobMetrics(gateway, scorer, say) as job:
        yield job.count
