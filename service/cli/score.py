"""``oodgate score``: bundle or checkpoint + images -> verdict table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.arguments import BundlesOption
from train.cli import DATA_HELP


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
    prepare_folder(out)
    scorer = open_scorer(bundle, bundles, alpha, statistics)
    rows = open_data(data)
    index = None
    if labels and rows.class_labels is not None:
        index = match_labels(rows.class_labels, scorer.class_labels)
    inputs = ((row.id, row.image, known_label(row, index)) for row in rows)
    with Progress("scoring", len(rows)) as progress:
        outcomes = score_rows(scorer, inputs, out, progress.advance)
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    typer.echo(f"{out}: {outcomes.total():,} rows: {counts}")
