"""What a command refuses before it decodes an image, and what it says of a ResNet baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


def folder_of_junk(root: Path) -> None:
    """65 classes of one file each that cannot be decoded: whoever tries says so."""
    for i in range(65):
        (root / f"{i:02d}").mkdir(parents=True)
        (root / f"{i:02d}" / "x.png").write_bytes(b"junk")


DENSITY = "a ResNet baseline, which has no density and is for comparisons (oodgate calibrate"

ERRORS = {
    "auto is a recipe": ("train --data digits --recipe nope --out {tmp}/o", "imagenet, auto"),
    "too many classes": (
        "train --data {tmp}/junk --recipe digits --out {tmp}/o",
        "recipe 'digits' for 65 classes: n_classes 65: expected 1 to 64; choose data of fewer",
    ),
    "augmentation at resume": ("train --resume --no-augment --out {tmp}/o", "give only --out"),
    "no augmentation": (
        "train --data digits --recipe digits --augment --out {tmp}/o",
        "--augment: recipe 'digits' has no flips or shifts to keep: leave --augment out",
    ),
    "steps of an attack that is none": (
        "train --data digits --recipe digits --adversarial-steps 3 --out {tmp}/o",
        "--adversarial-steps 3 without --adversarial-eps: expected how far images may be moved",
    ),
    "a budget of no attacks": (
        "evaluate digits --id digits:test --suite calibration --budget full --out {tmp}/o",
        "--budget full is of attacks, which --suite calibration has none of: add attacks",
    ),
    "a baseline begins anew": (
        "train --data digits --recipe digits --baseline resnet --init {checkpoint} --out {tmp}/o",
        "init with kind resnet: expected a flow; leave out --init or --baseline",
    ),
    "out is below a file": (
        "train --data digits --recipe digits --out {tmp}/file/o",
        "is a file, expected a folder; choose another",
    ),
    "a bundle below a file": (
        "calibrate {checkpoint} --data {tmp}/junk --out {tmp}/file/deep/o",
        "/file is a file, expected a folder; choose another --out",
    ),
    "baseline to calibrate": ("calibrate {resnet} --data digits --out {tmp}/o", DENSITY),
    "baseline to score": ("score {resnet} --data digits --local --out {tmp}/o", DENSITY),
    "baseline to inspect": ("inspect {resnet}", DENSITY),
    "baseline to serve": ("serve {resnet}", DENSITY),
    "baseline to begin with": (
        "train --data digits --recipe digits --init {resnet} --out {tmp}/o",
        DENSITY,
    ),
    "no test": (
        "calibrate {checkpoint} --data {tmp}/junk --baseline {resnet} --out {tmp}/o",
        "add --test DATA",
    ),
    "alpha before decoding": (
        "calibrate {checkpoint} --data {tmp}/junk --alpha 2 --out {tmp}/o",
        "alpha 2.0 is not between 0 and 1",
    ),
    "alpha of few before decoding": (
        "calibrate {checkpoint} --data {tmp}/junk --alpha 0.01 --out {tmp}/o",
        "alpha 0.01 is too small for n = 65",
    ),
    "out is a file": (
        "train --data {tmp}/junk --recipe digits --out {tmp}/file",
        "is a file, expected a folder; choose another",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_one_line_before_anything_is_decoded(
    oodgate: Run, checkpoint_dir: Path, resnet_dir: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("mine")
    folder_of_junk(tmp_path / "junk")
    words, message = ERRORS[name]
    places = {"checkpoint": checkpoint_dir, "resnet": resnet_dir, "tmp": tmp_path}
    code, _, err = oodgate(*words.format(**places).split())
    said = [line for line in err.strip().splitlines() if not line.startswith("recipe digits, as")]
    assert code == 2
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert message in said[0]
