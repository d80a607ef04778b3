"""The console command ``oodgate``.

Its modules only describe the commands; each imports the rooms it needs when it is run, so that
``--help`` is quick and training or calibrating needs no server installed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

#: Exit status after Ctrl-C: 128 and the number of SIGINT, as shells count.
INTERRUPTED = 130

_STOPPED = "stopped\n"

HELP = """An image-classification service that can say no.

Try it: oodgate train --data digits --recipe digits --out runs/digits, then
oodgate calibrate runs/digits --data digits --out runs/digits-bundle, then
oodgate serve runs/digits-bundle.
"""


def build_app() -> typer.Typer:
    """The command with all its subcommands, which are imported here: see ``main``."""
    import typer

    from service.cli.calibrate import calibrate
    from service.cli.deploy import deploy
    from service.cli.drift import drift
    from service.cli.evaluate import evaluate
    from service.cli.explain import explain
    from service.cli.inspect import inspect
    from service.cli.score import score
    from service.cli.serve import serve
    from service.cli.train import train
    from train.sweep import sweep

    app = typer.Typer(
        add_completion=False, help=HELP, no_args_is_help=True, pretty_exceptions_enable=False
    )
    commands = (
        train, sweep, calibrate, evaluate, inspect, explain, score, drift, serve, deploy
    )  # fmt: skip
    for command in commands:
        app.command()(command)
    return app


def main() -> None:
    """Run; errors that a user can mend are one line and exit status 2, without a traceback.

    So is Ctrl-C, with status 130; also while the commands are imported, which is why they are here.
    """
    try:
        build_app()()
    except KeyboardInterrupt:
        sys.stderr.write(_STOPPED)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as ended:
        if _ended_without_a_word(ended):
            sys.stderr.write(_STOPPED)
        raise
    except Exception as error:
        if not _is_for_the_user(error):
            raise
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def _ended_without_a_word(ended: SystemExit) -> bool:
    """Whether typer has made this of a Ctrl-C; a command that stops in its own way says so."""
    return isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt)


def _is_for_the_user(error: Exception) -> bool:
    from service.batch.job_error import JobError
    from service.keys import KeysError
    from service.startup import StartupError

    if isinstance(error, (JobError, KeysError, StartupError)):
        return True
    from service.bundle import BundleError  # brings the model's libraries with it
    from train.cli import user_errors

    return isinstance(error, (BundleError, *user_errors()))
