"""The console command ``oodgate``.

Its modules only describe the commands; each imports the rooms it needs when it is run, so that
``--help`` is quick and training or calibrating needs no server installed.
"""

from __future__ import annotations

import typer

from service.cli.calibrate import calibrate
from service.cli.deploy import deploy
from service.cli.drift import drift
from service.cli.evaluate import evaluate
from service.cli.inspect import inspect
from service.cli.score import score
from service.cli.serve import serve
from service.cli.train import train
from train.cli import user_errors
from train.sweep import sweep

HELP = """An image-classification service that can say no.

Try it: oodgate train --data digits --recipe digits --out runs/digits, then
oodgate calibrate runs/digits --data digits --out runs/digits-bundle, then
oodgate serve runs/digits-bundle.
"""


def build_app() -> typer.Typer:
    """The command with all its subcommands."""
    app = typer.Typer(
        add_completion=False, help=HELP, no_args_is_help=True, pretty_exceptions_enable=False
    )
    for command in (train, sweep, calibrate, evaluate, inspect, score, drift, serve, deploy):
        app.command()(command)
    return app


def main() -> None:
    """Run; errors that a user can mend are one line and exit status 2, without a traceback."""
    try:
        build_app()()
    except Exception as error:
        if not _is_for_the_user(error):
            raise
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None


def _is_for_the_user(error: Exception) -> bool:
    from service.batch.job_error import JobError
    from service.keys import KeysError
    from service.startup import StartupError

    if isinstance(error, (JobError, KeysError, StartupError)):
        return True
    from service.bundle import BundleError  # brings the model's libraries with it

    return isinstance(error, (BundleError, *user_errors()))
