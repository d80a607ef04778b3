"""``oodgate score``: bundle or checkpoint + images -> verdict table."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.arguments import BundlesOption
from train.cli import DATA_HELP

if TYPE_CHECKING:
    import pyarrow as pa

    from service.batch.ray_start import Cluster
    from service.pushgateway import Gateway
    from service.scorer import Scorer


def score(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle's folder or name, or a checkpoint's folder: that gives scores only.",
        ),
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    out: Annotated[
        str,
        typer.Option(
            help="Folder of the table, or a URL (s3://, gs://). Where the same command has begun "
            "a table there it goes on; anything else in it is refused."
        ),
    ],
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="Ray to score on: HOST:PORT, ray://HOST:PORT or auto. Default: a Ray of this "
            "machine that ends with the job.",
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|MIN-MAX",
            help="Actors that score, each on a GPU where there are any; Ray takes more or fewer "
            "of them as there is work. Default: one a GPU or core that the cluster has.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=4096, help="Images that are scored together, at most.")
    ] = 64,
    fdr: Annotated[
        float | None,
        typer.Option(
            metavar="Q",
            help="Name strangers over the whole set too, in column fdr_rejected: of those named, "
            "at most a share Q are typical images on average (Benjamini-Hochberg).",
        ),
    ] = None,
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

    The table is the same wherever it is scored: in this process (--local), on a Ray of this
    machine, or on a cluster. An image that cannot be decoded is a row with its error, never a
    failed job; a job that was ended goes on when the same command is given again.
    """
    from service.batch.job_error import JobError
    from service.batch.ray_start import Starting

    if local and workers is not None:
        raise JobError("--local is one process: expected no --workers beside it; leave one out")
    cluster = None if local else asked_cluster(address, workers)
    with contextlib.nullcontext() if cluster is None else Starting(cluster) as starting:
        from service.cli.score_job import Work, check_fdr, score_all
        from service.scorer import open_scorer

        gateway = None
        if metrics_pushgateway is not None:
            gateway = _gateway(metrics_pushgateway, metrics_job, metrics_instance, out)
        scorer = open_scorer(bundle, bundles, alpha, statistics)
        check_fdr(fdr, scorer)
        work = Work.of(scorer, data, labels=labels, batch_size=batch_size, fdr=fdr)
        with _counting(gateway, scorer) as count:
            score_all(work, out, starting, count)


def asked_cluster(address: str | None, workers: str | None) -> Cluster:
    """What ``--address`` and ``--workers`` ask for; raises ``JobError`` and ``ClusterError``."""
    from service.batch.ray_start import Cluster
    from train.cluster import check_address

    if address:
        check_address(address)
    return Cluster(address=address or None, workers=None if workers is None else _range(workers))


def _range(workers: str) -> tuple[int, int]:
    from service.batch.job_error import JobError

    fewest, dash, most = workers.partition("-")
    try:
        found = int(fewest), int(most if dash else fewest)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1]:
        raise JobError(f"--workers {workers}: expected a number, or two such as 1-8")
    return found


def _gateway(url: str, job: str, instance: str | None, out: str) -> Gateway:
    from service.startup import StartupError

    try:
        from service.pushgateway import Gateway
    except ModuleNotFoundError as error:
        raise StartupError(
            f"--metrics-pushgateway needs the package {error.name}: install oodgate with its "
            "'serve' extra"
        ) from error
    if instance is None:
        instance = f"{socket.gethostname()}:{out if '://' in out else Path(out).resolve()}"
    return Gateway.at(url, job, instance)


@contextlib.contextmanager
def _counting(
    gateway: Gateway | None, scorer: Scorer
) -> Iterator[Callable[[pa.Table], None] | None]:
    """What is to be given the rows of each batch; None where nobody counts."""
    if gateway is None:
        yield None
        return
    from service.pushgateway import JobMetrics
    from train.progress import say

    with JobMetrics(gateway, scorer, say) as job:
        yield job.count
