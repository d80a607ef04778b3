"""Attacked images on their way: what is recorded, kept, drawn and given to ``oodgate explain``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.image import UInt8Array
from service.bundle import Bundle
from service.cli.explain_attack import paths_of
from service.predictor import Predictor
from tests.train.holding import ROWS, held_digits, small_resnet
from train.attacks.attacked import AttackedBaseline
from train.attacks.gate import SmoothGate
from train.attacks.served import ServedGate
from train.data import DataError
from train.evaluation import attack_suite
from train.evaluation.attack_baselines import logits_of, rightly_classified
from train.evaluation.attack_cell import MODEL
from train.evaluation.attack_cells import Target, Victims
from train.evaluation.attack_plan import ADAPTIVE, FOLLOWED, PLAIN, Attack, Budget, budget
from train.evaluation.attack_run import AttackRun, read_attack_run, write_attack_run
from train.evaluation.attack_suite import AttackSuite, chosen
from train.evaluation.cells import Cells
from train.evaluation.document import Picture
from train.evaluation.markdown import to_markdown
from train.evaluation.measure import Held
from train.evaluation.part import Part
from train.evaluation.trajectories import IMAGES, POINTS, follow, follow_baseline, some
from train.evaluation.trajectory_cell import Trajectory, TrajectoryCell

BLIND = Attack(kind=PLAIN, method="PGD", norm="linf", eps=96, steps=15)
KNOWING = Attack(kind=ADAPTIVE, method="selective PGD", norm="linf", eps=96, steps=60)
WEAK = Attack(kind=PLAIN, method="PGD", norm="linf", eps=1, steps=2)

#: Of the names that are followed, and one that is not.
TINY = Budget(
    name="tiny",
    images=10,
    attacks=(
        WEAK,
        Attack(kind=PLAIN, method="PGD", norm="linf", eps=8, steps=3),
        Attack(kind=ADAPTIVE, method="selective PGD", norm="linf", eps=8, steps=3, restarts=2),
    ),
)
SUITE = AttackSuite(budget=TINY)
FILES = ("attacks_PGD-linf-8", "attacks_selective-PGD-linf-8")


@pytest.fixture(scope="module")
def held(bundle: Bundle) -> Held:
    return held_digits(bundle)


@pytest.fixture(scope="module")
def target(held: Held) -> Target:
    classifier, calibration = held.model.checkpoint.classifier, held.model.calibration
    return Target(ServedGate(classifier, calibration), SmoothGate(classifier, calibration))


@pytest.fixture(scope="module")
def victims(held: Held) -> Victims:
    return some(chosen(held, 20, 0))


def images_of(run: AttackRun) -> UInt8Array:
    """What would be sent, (N, P, C, H, W)."""
    pixels = run.images.astype(np.float64) * 255
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)
    return pixels.round().astype(np.uint8)


@pytest.mark.parametrize("name", ["quick", "full"])
def test_every_budget_has_what_is_followed(name: str) -> None:
    assert tuple(attack.name for attack in budget(name).followed) == FOLLOWED


@pytest.mark.parametrize("attack", [BLIND, KNOWING, WEAK], ids=lambda attack: attack.name)
def test_every_point_is_what_the_served_gate_says(
    target: Target, victims: Victims, attack: Attack
) -> None:
    cell, run = follow(target, victims, attack, 0)
    images = images_of(run)
    points = min(POINTS, attack.steps + 2)
    assert images.shape[:2] == (IMAGES, points)
    np.testing.assert_array_equal(images[:, 0], victims.images)
    moved = np.abs(images.astype(int) - victims.images[:, None]).max()
    assert 0 < moved <= attack.eps
    assert (run.labels == victims.labels).all()
    for one, steps, label in zip(cell.trajectories, images, victims.labels, strict=True):
        decided = target.served(steps)
        assert one.label == label != one.other
        assert one.predicted == tuple(decided.class_index)
        assert one.rejected == tuple(decided.rejected)
        assert (one.predicted[0], one.rejected[0]) == (label, False)
        assert one.evades == (decided.class_index[-1] != label and not decided.rejected[-1])
        assert len(one.margin) == len(one.excess) == points
        # the corner of the plane in which the end lies is the verdict
        assert (one.margin[-1] > 0) == (decided.class_index[-1] != label)
        assert [y > 0 for y in one.excess] == decided.rejected.tolist()


def test_the_gates_are_told_apart(target: Target, victims: Victims) -> None:
    """Who does not know the gate ends beyond it, who does nearer to being let in."""
    blind, _ = follow(target, victims, BLIND, 0)
    knowing, _ = follow(target, victims, KNOWING, 0)
    assert any(one.rejected[-1] for one in blind.trajectories)
    ends = [np.mean([one.excess[-1] for one in cell.trajectories]) for cell in (blind, knowing)]
    assert ends[1] < ends[0]


def test_a_failed_attack_is_seen_beside_the_next_class(target: Target, victims: Victims) -> None:
    cell, run = follow(target, victims, WEAK, 0)
    for one, steps in zip(cell.trajectories, images_of(run), strict=True):
        logits, _ = target.served.with_logits(steps)
        if one.predicted[-1] == one.label:
            assert one.other == np.argsort(logits[-1])[-2]
        assert one.margin == tuple(logits[:, one.other] - logits[:, one.label])


def test_the_seed_is_all_the_chance(target: Target, victims: Victims) -> None:
    first, again, other = (follow(target, victims, BLIND, seed) for seed in (0, 0, 1))
    assert first[0] == again[0] != other[0]
    np.testing.assert_array_equal(first[1].images, again[1].images)


def test_images_are_of_several_classes(held: Held) -> None:
    all_of_them = chosen(held, 20, 0)
    order = np.argsort(all_of_them.labels, kind="stable")
    by_class = all_of_them.take(order)
    found = some(by_class)
    assert len(found.images) == IMAGES
    assert len(np.unique(found.labels)) > 2
    assert len(some(found).images) == IMAGES


def test_kept_as_json_whatever_the_numbers() -> None:
    one = Trajectory(
        label=1,
        other=2,
        predicted=(1, 2),
        rejected=(False, True),
        margin=(-1.5, float("inf")),
        excess=(-0.5, float("inf")),
    )
    cell = TrajectoryCell(source=MODEL, attack="PGD linf 8", trajectories=(one,))
    ungated = replace(one, rejected=(), excess=(), evidence=(2.5, 3.0))
    of_net = TrajectoryCell(source="net", attack="PGD linf 8", trajectories=(ungated,))
    for found in (cell, of_net):
        text = json.dumps(found.to_json(), allow_nan=False)
        assert TrajectoryCell.from_json(json.loads(text), 10) == found


@pytest.mark.parametrize(
    "change",
    [
        {"label": "1"},
        {"label": True},
        {"other": -1},
        {"predicted": [1, 2.5]},
        {"predicted": [1]},
        {"predicted": 1},
        {"rejected": [0, 1]},
        {"rejected": []},
        {"margin": [0.0]},
        {"margin": ["far", 0.0]},
        {"margin": [None, 0.0]},
        {"margin": [10**400, 0.0]},
        {"predicted": [1, 10]},
        {"excess": [0.0, 0.0, 0.0]},
        {"evidence": [0.0, 0.0]},
        {"more": 1},
    ],
    ids=str,
)
def test_ways_of_another_kind_are_refused(change: dict[str, Any]) -> None:
    fine = {
        "label": 1,
        "other": 2,
        "predicted": [1, 2],
        "rejected": [False, True],
        "margin": [-1.5, 2],
        "excess": [-0.5, "inf"],
        "evidence": [],
    }
    kept = {"source": MODEL, "attack": "x", "trajectories": [fine]}
    assert TrajectoryCell.from_json(kept, 10).trajectories[0].evades is False
    wrong: list[dict[str, Any]] = [
        {**kept, "trajectories": [{**fine, **change}]},
        {**kept, "trajectories": 1},
        {**kept, "trajectories": []},
        {**kept, "attack": 1},
        {"source": MODEL, "attack": "x"},
        {**kept, "source": "net"},
        {},
    ]
    for broken in wrong:
        with pytest.raises(ValueError, match="not a cell of this version"):
            TrajectoryCell.from_json(broken, 10)


def test_a_baseline_is_followed_by_the_evidence_of_its_logits(held: Held) -> None:
    net, victims = AttackedBaseline(small_resnet(held).classifier), chosen(held, ROWS, 0)
    right = some(victims.take(rightly_classified(net, victims)))
    assert len(set(right.labels.tolist())) > 1
    cell, run = follow_baseline("net", net, right, BLIND, 0)
    images = images_of(run)
    np.testing.assert_array_equal(images[:, 0], right.images)
    assert 0 < np.abs(images.astype(int) - right.images[:, None]).max() <= BLIND.eps
    for one, steps, label in zip(cell.trajectories, images, right.labels, strict=True):
        logits = logits_of(net, steps)
        assert one.label == label == one.predicted[0] != one.other
        assert one.predicted == tuple(logits.argmax(axis=1))
        assert one.margin == tuple(logits[:, one.other] - logits[:, label])
        np.testing.assert_allclose(one.evidence, np.log(np.exp(logits).sum(axis=1)))
        assert (one.rejected, one.excess) == ((), ())
        assert one.evades == (one.predicted[-1] != label) == (one.margin[-1] > 0)
    assert any(one.evades for one in cell.trajectories)


def measured(held: Held, folder: Path) -> Part:
    return SUITE.measure(held, Cells.open(folder, SUITE.record(held)))


def test_a_report_has_the_ways_of_baselines(held: Held, tmp_path: Path) -> None:
    """Of the attack that needs no gate; beside each other whatever they are called."""
    names = ("a b", "a-b")
    beside = replace(held, baselines=tuple(small_resnet(held, name) for name in names))
    part = measured(beside, tmp_path / "cells")
    cells = [TrajectoryCell.from_json(cell, 10) for cell in part.data["followed"]]
    assert [(cell.source, cell.attack) for cell in cells] == [
        (MODEL, FOLLOWED[0]),
        *((name, FOLLOWED[0]) for name in names),
        (MODEL, FOLLOWED[1]),
    ]
    assert sum(name.endswith(".npz") for name in part.files) == len(cells)
    text = to_markdown(part.blocks)
    for name in names:
        assert f"{FOLLOWED[0]} on {name}: " in text


@pytest.mark.parametrize("what", ["half a run", "another's run", "another's cell"])
def test_a_damaged_way_is_refused(held: Held, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "cells"
    measured(held, folder)
    (run,) = folder.glob("way-model-PGD-linf-8-*.npz")
    (other,) = folder.glob("way-model-selective-PGD-linf-8-*.json")
    if what == "half a run":
        run.write_bytes(run.read_bytes()[:100])
    elif what == "another's run":
        whole = read_attack_run(run)
        parts = {name: array[1:] for name, array in vars(whole).items()}
        write_attack_run(run, AttackRun(**parts))
    else:
        run.with_suffix(".json").write_bytes(other.read_bytes())
    with pytest.raises(DataError, match="is not what an evaluation has measured: delete "):
        measured(held, folder)


def test_a_baseline_that_is_never_right_is_not_followed(
    held: Held, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = small_resnet(held, says=0)
    images = replace(held.known.images, labels=np.maximum(held.known.images.labels, 1))
    beside = replace(held, baselines=(net,), known=replace(held.known, images=images))
    part = measured(beside, tmp_path / "cells")
    assert [cell["source"] for cell in part.data["followed"]] == [MODEL, MODEL]
    assert "net classifies none rightly, and is not followed" in capsys.readouterr().err


def test_a_report_goes_on_with_what_was_followed(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = measured(held, tmp_path / "cells")
    assert set(part.files) == {f"{name}.{kind}" for name in FILES for kind in ("svg", "npz")}
    followed: list[str] = []
    really = follow

    def told(target: Target, victims: Victims, attack: Attack, seed: int) -> Any:
        followed.append(attack.name)
        return really(target, victims, attack, seed)

    monkeypatch.setattr(attack_suite, "follow", told)
    again = measured(held, tmp_path / "cells")
    assert followed == []
    assert again.files == part.files
    assert json.dumps(again.data) == json.dumps(part.data)
    next((tmp_path / "cells").glob("way-model-PGD-linf-8-*.npz")).unlink()
    assert measured(held, tmp_path / "cells").files == part.files
    assert followed == ["PGD linf 8"]


def test_what_the_report_shows(held: Held, tmp_path: Path) -> None:
    part = measured(held, tmp_path / "cells")
    pictures = [block for block in part.blocks if isinstance(block, Picture)]
    assert [picture.file for picture in pictures] == [f"{name}.svg" for name in FILES]
    for picture, cell in zip(pictures, part.data["followed"], strict=True):
        ways = TrajectoryCell.from_json(cell, 10).trajectories
        assert len(ways) == IMAGES
        evaded = sum(one.evades for one in ways)
        assert f"{evaded} of {IMAGES} images end as another class that is let in" in picture.caption
        assert part.files[picture.file].startswith(b"<?xml")
    assert "--attack RUN.npz" in to_markdown(part.blocks)


def test_explain_sees_the_same_verdicts(bundle: Bundle, held: Held, tmp_path: Path) -> None:
    part = measured(held, tmp_path / "cells")
    for name, cell in zip(FILES, part.data["followed"], strict=True):
        (tmp_path / "run.npz").write_bytes(part.files[f"{name}.npz"])
        run = read_attack_run(tmp_path / "run.npz")
        run.check_fits(bundle.spec.shape, len(bundle.class_labels))
        paths = list(paths_of(Predictor(bundle, "cpu"), run))
        ways = TrajectoryCell.from_json(cell, 10).trajectories
        for path, one in zip(paths, ways, strict=True):
            assert tuple(v.class_index for v in path.verdicts) == one.predicted
            assert tuple(v.rejected for v in path.verdicts) == one.rejected
