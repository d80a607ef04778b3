"""Where the log of Ray's worker processes goes: the terminal of ``oodgate serve``."""

from __future__ import annotations

import logging
import sys


def log_to_terminal() -> None:
    """Serve takes a replica's ``sys.stderr`` for lines below its log level, and drops them.

    Ray carries the real one to where ``oodgate serve`` runs.
    """
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("oodgate")
    logger.handlers = [handler]
    logger.propagate = False
    # a line for each form that a client gets wrong would be the client's to fill the disk with
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
