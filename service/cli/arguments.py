"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="A bundle's folder, or its name: looked up in --bundles, $OODGATE_BUNDLES and the "
        "bundles that ship.",
    ),
]

BundlesOption = Annotated[Path | None, typer.Option(help="Folder to look bundles up in by name.")]
