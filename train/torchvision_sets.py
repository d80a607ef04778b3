"""torchvision's data sets by name: ``fashion-mnist:test`` is ``FashionMNIST(train=False)``."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import torchvision

from train.data import DataError


def cache_folder() -> Path:
    """Where downloads lie: $OODGATE_DATA, else ~/.cache/oodgate."""
    return Path(os.environ.get("OODGATE_DATA", Path.home() / ".cache" / "oodgate"))


def open_set(spec: str, name: str, split: str) -> tuple[Any, tuple[str, ...] | None]:
    """The data set and its class names; raises ``DataError`` for a name or split it lacks."""
    wanted = name.lower().replace("-", "").replace("_", "")
    known = {entry.lower(): entry for entry in torchvision.datasets.__all__}
    if wanted not in known:
        raise DataError(
            f"{spec}: no such file or folder, and no torchvision data set of that name; expected "
            "'digits', a name such as 'fashion-mnist:test', a folder, a glob, or Parquet"
        )
    constructor = getattr(torchvision.datasets, known[wanted])
    options = _split_options(spec, inspect.signature(constructor).parameters, split)
    try:
        dataset = constructor(root=str(cache_folder()), download=True, **options)
    except Exception as error:  # torchvision raises many kinds; each means there is no data
        raise DataError(
            f"{spec}: torchvision could not provide it ({error}); download it into "
            f"{cache_folder()} or set OODGATE_DATA"
        ) from error
    classes = getattr(dataset, "classes", None)
    return dataset, None if classes is None else tuple(str(label) for label in classes)


def _split_options(spec: str, parameters: Any, split: str) -> dict[str, Any]:
    if "download" not in parameters:
        raise DataError(f"{spec}: torchvision cannot download this set; give a folder or Parquet")
    if "split" in parameters:
        return {"split": split}
    if "train" not in parameters or split not in ("train", "test"):
        raise DataError(f"{spec}: split {split!r}; expected train or test")
    return {"train": split == "train"}
