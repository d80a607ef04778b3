"""``oodgate calibrate``: checkpoint or bundle + held-out images -> bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.arguments import BundlesOption
from train.cli import DATA_HELP

if TYPE_CHECKING:
    import pyarrow as pa

    from calibration.calibration import Calibration
    from calibration.rows import RowRecord
    from calibration.selection import Selection
    from service.cli.source import Source
    from train.data import ImageRows
    from train.images import Images


def calibrate(
    source: Annotated[
        str, typer.Argument(metavar="CHECKPOINT_OR_BUNDLE", help="A folder of either kind.")
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; must not exist.")],
    alpha: Annotated[
        float | None, typer.Option(help="Largest share of typical images that may be rejected.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Chance that the share exceeds alpha.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="For whom alpha holds: marginal (all images together), predicted_class (within "
            "each predicted class) or label_shift_safe (within each true class, whatever their "
            "shares)."
        ),
    ] = None,
    posterior: Annotated[
        str | None,
        typer.Option(help="temperature, or vector: a weight and an offset for each class too."),
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(help="Prediction sets: lac (smallest) or aps (larger where it is hard)."),
    ] = None,
    set_level: Annotated[
        float | None, typer.Option(help="Chance that a prediction set holds the true class.")
    ] = None,
    outliers: Annotated[
        int | None,
        typer.Option(
            help="Distorted copies of each row that the gate is fitted on, to show it strangers: "
            "more give more power and take more time; 0 for none, 6 if left out.",
            min=0,
            max=60,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="The model's name; default: the recipe's.")] = "",
    test: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="Labelled images to write figures of; rows that the model knows are left out.",
        ),
    ] = "",
    flow: Annotated[
        Path | None,
        typer.Option(help="A finished run with beta 0, to hold bits/dim on --test against."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="A finished ResNet run, to hold accuracy on --test against."),
    ] = None,
    bundles: BundlesOption = None,
) -> None:
    """Fit temperature and p-values on images the model has not seen, and seal a bundle.

    With the training DATA exactly the rows held out then are used; of other DATA all rows, but
    never one that was trained on. A bundle that is recalibrated keeps what no flag says otherwise.
    Images without labels will do for that: its posterior and prediction sets are then kept.
    Figures on --test go into the bundle's manifest and decide nothing. Next: oodgate serve.
    """
    import numpy as np

    from calibration.conformal import pac_rank
    from calibration.selection import select_rows
    from service.bundle import refuse_existing, seal
    from service.cli.held_out import (
        held_out_metrics,
        open_held_out,
        refuse_without_test,
        summary,
    )
    from service.cli.promise import promise
    from service.cli.source import open_source
    from train.data import open_data
    from train.images import load_images
    from train.left_out import of_known_classes
    from train.progress import watch

    refuse_existing(out)
    refuse_without_test(test, flow, baseline)
    model = open_source(source, bundles)
    asked = _asked(
        model,
        alpha=alpha,
        delta=delta,
        mode=mode,
        posterior_method=posterior,
        set_method=sets,
        set_level=set_level,
    )
    rows = open_data(data)
    pac_rank(
        len(rows), asked["alpha"], asked["delta"]
    )  # what all rows cannot support, no part of them can
    checkpoint = model.checkpoint
    rows, left_out = of_known_classes(rows, model.training)
    if left_out:
        typer.echo(left_out)
    images = load_images(rows, checkpoint.spec, checkpoint.class_labels, watch)
    selection = select_rows(images.digests, model.record)
    _say_selection(selection, len(images))
    used = images.digests[np.concatenate([selection.fit, selection.cal])]
    tested = open_held_out(test, flow, baseline, model, used)
    if tested:
        typer.echo(tested.describe())
    copies = _copies(model, rows, images, selection, outliers)
    calibration = _fit(model, images, selection, copies, asked)
    metrics = _metrics(calibration, model)
    if tested:
        metrics |= held_out_metrics(tested, checkpoint, calibration)
        typer.echo(summary(metrics))
    record = _record(model, images, selection, calibration)
    manifest = _manifest(model, data, name, metrics, record, selection)
    bundle = seal(out, manifest, _contents(model, calibration, record))
    typer.echo(f"bundle {bundle.name} {bundle.version} in {out}: {promise(calibration)}")


#: What is asked of a calibration where neither a flag nor an earlier calibration says.
DEFAULTS: dict[str, Any] = {
    "alpha": 0.05,
    "delta": 0.05,
    "mode": "marginal",
    "posterior_method": "temperature",
    "set_method": "lac",
    "set_level": 0.95,
}


def _asked(model: Source, **given: Any) -> dict[str, Any]:
    """What was given, else as the bundle that is recalibrated has it, else ``DEFAULTS``.

    Raises ``CalibrationError`` for words and levels that there are not, before anything is scored.
    """
    from calibration.modes import check_mode
    from calibration.posterior import check_options

    before: dict[str, Any] = {}
    if model.prior is not None:
        prior, posterior = model.prior, model.prior.posterior
        before = {"alpha": prior.alpha, "delta": prior.delta, "mode": prior.mode}
        before |= {"posterior_method": posterior.method, "set_method": posterior.set_method}
        before |= {"set_level": posterior.set_level}
    asked = DEFAULTS | before | {name: v for name, v in given.items() if v is not None}
    check_mode(asked["mode"])
    check_options(asked["posterior_method"], asked["set_method"], asked["set_level"])
    return asked


def _say_selection(selection: Selection, total: int) -> None:
    used = f"{len(selection.fit):,} rows to fit and {len(selection.cal):,} to calibrate"
    if selection.held_out:
        typer.echo(f"training data: using the rows held out from training, {used}")
        return
    typer.echo(f"new data: using {used} of {total:,}")
    if selection.trained_on:
        typer.echo(f"refused {selection.trained_on:,} rows that the model was trained on")


def _copies(
    model: Source, rows: ImageRows, images: Images, selection: Selection, asked: int | None
) -> list[pa.Table]:
    from train.outliers import COPIES, outlier_scores

    count = asked
    if count is None:
        count = COPIES if model.prior is None else _copies_of(model.prior)
    if not count or not len(selection.fit):
        return []
    fit = images.take(selection.fit)
    return [outlier_scores(model.checkpoint.classifier, fit, rows, count)]


def _copies_of(prior: Calibration) -> int:
    """Copies a fit row in an earlier calibration."""
    fit, copies = (_rows(prior.table, part).num_rows for part in ("fit", "outlier"))
    return round(copies / fit) if fit else 0


def _fit(
    model: Source,
    images: Images,
    selection: Selection,
    copies: list[pa.Table],
    asked: dict[str, Any],
) -> Calibration:
    import numpy as np
    import pyarrow as pa

    from calibration.calibration import Calibration
    from service.bundle import bound_to
    from train.scoring import score_images

    rows = np.concatenate([selection.fit, selection.cal])
    parts = ["fit"] * len(selection.fit) + ["cal"] * len(selection.cal)
    held_out = score_images(model.checkpoint.classifier, images.take(rows), parts)
    return Calibration.fit(
        pa.concat_tables([_training_scores(model, images, held_out), held_out, *copies]),
        bound=bound_to(model.weights, model.checkpoint.spec),
        posterior_from=model.prior,
        **asked,
    )


def _training_scores(model: Source, images: Images, like: pa.Table) -> pa.Table:
    """The scores of training rows with the columns of ``like``.

    Those of an earlier version lack statistics: scored anew where the images are at hand, and else
    left out, since nothing is decided by them.
    """
    import numpy as np

    from calibration.rows import is_in
    from train.scoring import score_images

    known = model.training_scores
    if set(known.column_names) == set(like.column_names):
        return known.select(like.column_names)
    ids = set(known.column("id").to_pylist())
    there = is_in(images.digests, model.record.train) & [id_ in ids for id_ in images.ids]
    rows = np.flatnonzero(there)
    if not len(rows):
        typer.echo("the scores of training rows are of an earlier version: left out, no p_train")
        return like.slice(0, 0)
    typer.echo(f"the scores of training rows are of an earlier version: {len(rows):,} scored anew")
    return score_images(model.checkpoint.classifier, images.take(rows), ["train"] * len(rows))


def _record(
    model: Source, images: Images, selection: Selection, calibration: Calibration
) -> RowRecord:
    fit, cal = images.digests[selection.fit], images.digests[selection.cal]
    return model.record.recalibrated(fit, cal, borrowed=calibration.posterior_borrowed)


def _contents(model: Source, calibration: Calibration, record: RowRecord) -> dict[str, bytes]:
    from calibration.files import to_files
    from service import bundle

    return {
        bundle.MODEL_CONFIG: model.config,
        bundle.MODEL_WEIGHTS: model.weights,
        **dict(zip(bundle.CALIBRATION_FILES, to_files(calibration).values(), strict=True)),
        bundle.ROWS: record.to_bytes(),
        bundle.HISTORY: model.history,
    }


def _manifest(
    model: Source,
    data: str,
    name: str,
    metrics: dict[str, Any],
    record: RowRecord,
    selection: Selection,
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from service.bundle import DTYPE
    from train.run_file import git_commit

    flow = model.checkpoint.classifier.config
    return {
        "name": name or model.name,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "git_commit": git_commit(),
        "classes": model.checkpoint.class_labels,
        "input_shape": flow.input_shape,
        "levels": flow.levels,
        "dtype": DTYPE,
        "preprocessing": model.checkpoint.spec.describe(),
        "data": {
            "training": model.training_data,
            "calibration": data,
            "held_out_from_training": selection.held_out,
            "refused_trained_on": 0 if selection.held_out else selection.trained_on,
            "rows": record.counts(),
        },
        "training": dict(model.training),
        "metrics": metrics,
    }


def _metrics(calibration: Calibration, model: Source) -> dict[str, Any]:
    """Figures on calibration rows, which the posterior was not fitted on.

    Realised rates of the p-value are not among them: S has seen the fit rows, and the calibration
    rows are its reference; ``--test`` gives them on rows that are neither.
    """
    from calibration.table import floats_of
    from model.classifier import bits_per_dim

    cal = _rows(calibration.table, "cal")
    log_prob = floats_of(cal, "log_prob")
    figures: dict[str, Any] = {
        "bits_per_dim": bits_per_dim(float(log_prob.mean()), model.checkpoint.classifier.config)
    }
    if not calibration.posterior_borrowed:
        figures |= _posterior_metrics(calibration, cal)
    return figures


def _posterior_metrics(calibration: Calibration, cal: pa.Table) -> dict[str, Any]:
    from calibration.metrics import accuracy
    from calibration.posterior_figures import posterior_figures
    from calibration.table import labels_of, logits_of

    posterior = calibration.posterior(logits_of(cal))
    labels, _ = labels_of(cal)
    return {"accuracy": accuracy(posterior, labels), **posterior_figures(posterior, labels)}


def _rows(table: pa.Table, part: str) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.equal(table["split"], part))
