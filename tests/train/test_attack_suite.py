"""The suite ``attacks`` on a small model: budgets, cells, going on, what the report says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calibration.detection import rate_of
from service.bundle import Bundle
from tests.train.holding import held_digits, small_resnet
from train.attacks import served
from train.attacks.attacked import AttackedBaseline
from train.attacks.gate import SmoothGate
from train.attacks.served import Outcome, ServedGate
from train.baselines import ResNetClassifier
from train.data import DataError, open_data
from train.evaluation import attack_baselines, attack_cells, attack_suite
from train.evaluation.attack_baselines import attack_baseline, logits_of
from train.evaluation.attack_cell import AttackCell
from train.evaluation.attack_cells import (
    Target,
    Victims,
    _content,
    _start,
    _with_better,
    attack_model,
    others,
)
from train.evaluation.attack_plan import (
    ADAPTIVE,
    DETECTIONS,
    KAPPAS,
    PLAIN,
    QUERIES,
    STRANGERS,
    TARGETED,
    Attack,
    Budget,
    budget,
)
from train.evaluation.attack_story import CLAIM, part_of
from train.evaluation.attack_suite import AttackSuite, chosen, noise, rejected_strangers
from train.evaluation.cells import Cells
from train.evaluation.document import Table
from train.evaluation.markdown import to_markdown
from train.evaluation.measure import Baseline, Held
from train.evaluation.sets import OTHER, StrangeRows

TINY = Budget(
    name="tiny",
    images=6,
    attacks=(
        Attack(kind=PLAIN, method="PGD", norm="linf", eps=64, steps=3),
        Attack(kind=PLAIN, method="APGD", norm="l2", eps=1, steps=3),
        Attack(kind=ADAPTIVE, method="selective PGD", norm="linf", eps=64, steps=3, restarts=2),
        Attack(kind=ADAPTIVE, method="orthogonal PGD", norm="linf", eps=64, steps=3),
        Attack(kind=QUERIES, method="Square", norm="linf", eps=64, steps=3),
        Attack(
            kind=TARGETED, method="CW", norm="l2", eps=math.inf, steps=3, kappa=1.0, detection=0.0
        ),
        Attack(kind=STRANGERS, method="PGD on the score", norm="linf", eps=64, steps=3),
    ),
)
SUITE = AttackSuite(budget=TINY)


@pytest.fixture(scope="module")
def held(bundle: Bundle) -> Held:
    return held_digits(bundle)


@pytest.fixture(scope="module")
def resnet(held: Held) -> Baseline:
    return small_resnet(held)


@pytest.fixture(scope="module")
def target(held: Held) -> Target:
    classifier, calibration = held.model.checkpoint.classifier, held.model.calibration
    return Target(ServedGate(classifier, calibration), SmoothGate(classifier, calibration))


@pytest.mark.parametrize(("name", "images"), [("quick", 60), ("full", 500)])
def test_budgets_have_every_kind_of_attack(name: str, images: int) -> None:
    found = budget(name)
    assert found.images >= images
    kinds = {attack.kind for attack in found.attacks}
    assert kinds == {PLAIN, ADAPTIVE, QUERIES, TARGETED, STRANGERS}
    names = [attack.name for attack in found.attacks]
    assert len(set(names)) == len(names)
    targeted = [a for a in found.attacks if a.kind == TARGETED]
    grid = {(a.kappa, a.detection) for a in targeted if not a.sees_gate}
    assert grid == {(kappa, d) for kappa in KAPPAS for d in DETECTIONS}
    assert any(a.sees_gate for a in targeted)
    for plain in (a for a in found.attacks if a.kind == PLAIN and a.norm == "linf" and a.eps > 1):
        assert any(
            a.kind == ADAPTIVE and (a.norm, a.eps) == ("linf", plain.eps) for a in found.attacks
        )


def test_a_full_budget_restarts_and_has_a_long_run() -> None:
    attacks = budget("full").attacks
    assert max(a.restarts for a in attacks if a.kind == ADAPTIVE) >= 5
    assert max(a.steps for a in attacks if a.kind == ADAPTIVE) >= 1000


def test_another_budget_is_refused() -> None:
    with pytest.raises(DataError, match="--budget tiny: expected quick or full"):
        budget("tiny")


def test_attacked_are_images_that_were_right_and_let_in(held: Held, target: Target) -> None:
    victims = chosen(held, 20, 0)
    decided = target.served(victims.images)
    assert (decided.class_index == victims.labels).all()
    assert not decided.rejected.any()
    np.testing.assert_array_equal(decided.score, victims.score)
    np.testing.assert_array_equal(chosen(held, 20, 0).images, victims.images)


@pytest.mark.parametrize("attack", TINY.attacks, ids=lambda attack: attack.name)
def test_every_attack_is_measured_as_served(held: Held, target: Target, attack: Attack) -> None:
    victims = chosen(held, TINY.images, 0)
    if attack.kind == STRANGERS:
        victims = noise(target.served, victims, 0)
    found = attack_model(target, victims, attack, 0)
    assert found.images == found.wrong.total == TINY.images
    assert found.evaded is not None
    assert found.detected is not None
    if attack.kind != STRANGERS:
        assert found.evaded.count == found.wrong.count - found.detected.count
        assert found.detected.total == found.wrong.count
    again = attack_model(target, victims, attack, 0)
    assert replace(again, seconds=found.seconds) == found
    assert AttackCell.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_aims_are_other_classes() -> None:
    labels = np.tile(np.arange(10), 20)
    found = others(labels, 10, 0)
    assert (found != labels).all()
    assert len(set(found.tolist())) == 10
    assert (found >= 0).all()
    assert (found < 10).all()


def test_an_image_counts_by_its_best_restart() -> None:
    def made(predicted: list[int], rejected: list[bool], score: list[float]) -> Outcome:
        return Outcome(
            predicted=np.array(predicted),
            rejected=np.array(rejected),
            score=np.array(score),
            l2=np.array(score),
            linf=np.array(score),
        )

    first = made([0, 1, 1, 1, 2], [False, True, True, False, False], [1, 5, 5, 1, 7])
    again = made([1, 1, 1, 0], [True, False, True, False], [9, 2, 3, 0])
    best = _with_better(first, again, np.array([0, 1, 2, 3]), np.array([0, 0, 0, 0]))
    assert best.predicted.tolist() == [1, 1, 1, 1, 2]
    assert best.rejected.tolist() == [True, False, True, False, False]
    assert best.score.tolist() == [9, 2, 3, 1, 7]
    assert first.predicted.tolist() == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(("kind", "left"), [(PLAIN, [0]), (ADAPTIVE, [0, 1]), (QUERIES, [0, 1])])
def test_who_starts_again(kind: str, left: list[int]) -> None:
    """One who knows the classes alone is content with a wrong one."""
    found = Outcome(
        predicted=np.array([0, 1, 1]),
        rejected=np.array([False, True, False]),
        score=np.zeros(3),
        l2=np.zeros(3),
        linf=np.zeros(3),
    )
    attack = Attack(kind=kind, method="x", norm="linf", eps=1, steps=1)
    assert np.flatnonzero(~_content(found, np.zeros(3, np.int64), attack)).tolist() == left


def test_who_starts_again_from_another_class_has_all_to_choose_from(held: Held) -> None:
    """Of a single class starts are random."""
    victims = chosen(held, TINY.images, 0)
    attack = Attack(
        kind=ADAPTIVE, method="selective PGD from another class", norm="linf", eps=255, steps=1
    )
    begin = _start(victims, attack, 3)
    assert begin is not None
    for place, label in enumerate(victims.labels):
        of = [i for i, x in enumerate(victims.x) if torch.equal(x, begin[place])]
        assert of
        assert victims.labels[of[0]] != label
    alone = victims.take(np.flatnonzero(victims.labels == victims.labels[0]))
    assert _start(alone, attack, 3) is None
    assert _start(victims, replace(attack, method="selective PGD"), 3) is None


def test_an_attack_from_another_class_begins_there(held: Held) -> None:
    """In a ball that reaches it every image is let in as another class, after no step at all."""
    classifier, calibration = held.model.checkpoint.classifier, held.model.calibration
    target = Target(ServedGate(classifier, calibration), SmoothGate(classifier, calibration))
    victims = chosen(held, TINY.images, 0)
    assert len(set(victims.labels.tolist())) > 1
    attack = Attack(
        kind=ADAPTIVE, method="selective PGD from another class", norm="linf", eps=255, steps=1
    )
    assert attack.from_another
    found = attack_model(target, victims, attack, 0)
    assert found.evaded is not None
    assert found.evaded.share == 1


def test_a_baseline_has_no_gate(held: Held, resnet: Baseline) -> None:
    assert isinstance(resnet.classifier, ResNetClassifier)
    victims = chosen(held, TINY.images, 0)
    found = attack_baseline("net", AttackedBaseline(resnet.classifier), victims, TINY.attacks[0], 0)
    assert (found.detected, found.evaded, found.auroc) == (None, None, None)
    assert AttackCell.from_json(found.to_json()) == found


def test_a_stopped_run_goes_on_where_it_was(
    held: Held, resnet: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = replace(held, baselines=(resnet,))
    made: list[str] = []
    measure = attack_model

    def stopping(target: Target, victims: Victims, attack: Attack, seed: int) -> AttackCell:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(attack.name)
        return measure(target, victims, attack, seed)

    cells = Cells.open(tmp_path / "cells", SUITE.record(beside))
    with monkeypatch.context() as patched:
        patched.setattr(attack_suite, "attack_model", stopping)
        with pytest.raises(KeyboardInterrupt):
            SUITE.measure(beside, cells)
    assert len(cells.names()) == 3
    part = SUITE.measure(beside, Cells.open(tmp_path / "cells", SUITE.record(beside)))
    sources = [cell["source"] for cell in part.data["cells"]]
    assert sources.count("model") == len(TINY.attacks)
    assert sources.count("net") == 3  # two plain ones and Carlini-Wagner's without a detector
    json.dumps(part.data)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"wrong": None}, "another kind of wrong"),
        ({"let_in": [True]}, "another kind of number of flags"),
        ({"let_in": ["x"] * 6}, "another kind of let_in"),
        ({"moved": ["x"]}, "another kind of auroc, l2 or moved"),
        ({"images": "6"}, "another kind of images"),
        ({"unknown": 1}, "unexpected keyword"),
        ({"evaded": {"count": 1}}, "missing"),
        (
            {"evaded": {"count": 1, "total": 2, "share": "x", "low": 0.0, "high": 1.0}},
            "another kind of share",
        ),
    ],
)
def test_a_damaged_cell_is_refused(
    held: Held, target: Target, changed: dict[str, object], text: str
) -> None:
    victims = chosen(held, TINY.images, 0)
    content = attack_model(target, victims, TINY.attacks[0], 0).to_json()
    with pytest.raises(ValueError, match=f"not a cell of this version: .*{text}"):
        AttackCell.from_json({**content, **changed})


def test_images_are_attacked_in_parts(
    held: Held, target: Target, resnet: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As memory allows; what needs no luck comes out as in one piece."""
    victims = chosen(held, TINY.images, 0)
    (targeted,) = (a for a in TINY.attacks if a.kind == TARGETED)
    whole = attack_model(target, victims, targeted, 0)
    logits, decided = target.served.with_logits(victims.images)
    for module in (attack_cells, attack_baselines, served):
        monkeypatch.setattr(module, "AT_ONCE", 4)
    again, in_parts = target.served.with_logits(victims.images)
    np.testing.assert_allclose(again, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(in_parts.score, decided.score, rtol=1e-4, atol=1e-4)
    assert [len(part) for part in attack_cells.parts_of(victims, np.arange(6))] == [4, 2]
    parts = attack_model(target, victims, targeted, 0)
    assert parts.let_in == whole.let_in
    net, many = AttackedBaseline(resnet.classifier), chosen(held, 40, 0)
    in_parts_of_4 = logits_of(net, many.images)
    found = attack_baseline("net", net, many, targeted, 0)
    for module in (attack_cells, attack_baselines, served):
        monkeypatch.setattr(module, "AT_ONCE", 500)
    np.testing.assert_allclose(in_parts_of_4, logits_of(net, many.images), rtol=1e-4, atol=1e-4)
    assert found.images > 4
    assert found.wrong == attack_baseline("net", net, many, targeted, 0).wrong


def test_a_baseline_is_attacked_again_where_it_is_right(held: Held, resnet: Baseline) -> None:
    """Image by image in the order of all; those that it has wrong anyhow are left out."""
    victims = chosen(held, 40, 0)
    attacked = AttackedBaseline(resnet.classifier)
    attack = Attack(kind=PLAIN, method="PGD", norm="linf", eps=8, steps=1)
    once, often = (
        attack_baseline("net", attacked, victims, replace(attack, restarts=n), 0) for n in (1, 6)
    )
    assert 0 < once.images == often.images < len(victims.images) == len(once.moved)
    assert once.wrong.count <= often.wrong.count == sum(l2 is not None for l2 in often.moved)
    turned = {i for i, l2 in enumerate(once.moved) if l2 is not None}
    assert turned <= {i for i, l2 in enumerate(often.moved) if l2 is not None}


def test_one_that_is_never_right_is_attacked_on_nothing(held: Held, resnet: Baseline) -> None:
    victims = chosen(held, 10, 0)
    attacked = AttackedBaseline(resnet.classifier)
    never = np.flatnonzero(logits_of(attacked, victims.images).argmax(axis=1) != victims.labels)
    for attack in TINY.attacks:
        if attack.kind in (PLAIN, TARGETED):
            found = attack_baseline("net", attacked, victims.take(never), attack, 0)
            assert (found.images, found.wrong.total, found.l2) == (0, 0, None)
            assert AttackCell.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_baselines_of_names_that_are_alike_share_nothing(held: Held, tmp_path: Path) -> None:
    """Nor does a name that no file may have."""
    names = ("a b", "a-b", "ä" * 200, "../x")
    beside = replace(held, baselines=tuple(small_resnet(held, name) for name in names))
    tiny = AttackSuite(budget=replace(TINY, attacks=TINY.attacks[:1]))
    cells = Cells.open(tmp_path / "cells", tiny.record(beside))
    sources = [cell["source"] for cell in tiny.measure(beside, cells).data["cells"]]
    assert sources == ["model", *names]
    assert [cell["source"] for cell in tiny.measure(beside, cells).data["cells"]] == sources
    assert len(cells.names()) == len(sources)


def test_both_are_aimed_at_the_same_classes(held: Held) -> None:
    victims = chosen(held, 20, 0)
    assert (victims.aims != victims.labels).all()
    some = np.array([3, 7, 11])
    np.testing.assert_array_equal(victims.take(some).aims, victims.aims[some])


def drawn(folder: Path, count: int, least: int) -> StrangeRows:
    """Images of noise as PNG files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(least, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return StrangeRows(
        name=f"a set/{folder.name}", data="x", group=OTHER, rows=open_data(str(folder))
    )


def test_strangers_that_are_rejected_are_attacked(
    held: Held, target: Target, tmp_path: Path
) -> None:
    """Of each set that is given beside noise."""
    rows = (drawn(tmp_path / "dark", 20, 0), drawn(tmp_path / "bright", 3, 200))
    found = rejected_strangers(held, target.served, rows[0], 5, 0)
    assert len(found.images) == 5
    assert target.served(found.images).rejected.all()
    suite = AttackSuite(budget=TINY, strangers=rows)
    part = suite.measure(held, Cells.open(tmp_path / "cells", suite.record(held)))
    text = to_markdown(part.blocks)
    assert "| noise | 6 |" in text
    assert "| a set/dark | 6 |" in text
    assert "| a set/bright | 3 |" in text


def test_strangers_that_are_let_in_as_they_are_need_no_attack(held: Held, tmp_path: Path) -> None:
    served = ServedGate(held.model.checkpoint.classifier, held.model.calibration)
    folder = tmp_path / "known"
    folder.mkdir()
    for number, image in enumerate(chosen(held, 4, 0).images):
        Image.fromarray(image[0]).save(folder / f"{number}.png")
    rows = StrangeRows(name="known", data="x", group=OTHER, rows=open_data(str(folder)))
    assert len(rejected_strangers(held, served, rows, 5, 0).images) == 0
    suite = AttackSuite(budget=TINY, strangers=(rows,))
    part = suite.measure(held, Cells.open(tmp_path / "cells", suite.record(held)))
    assert "| known | none is rejected | – |" in to_markdown(part.blocks)


def test_nothing_to_attack_is_refused(held: Held) -> None:
    labels = np.full_like(held.known.images.labels, -1)
    images = replace(held.known.images, labels=labels)
    with pytest.raises(DataError, match="found 0 labelled images of digits:test"):
        SUITE.record(replace(held, known=replace(held.known, images=images)))


def cell(attack: Attack, evaded: int, detected: int = 0, source: str = "model") -> AttackCell:
    return AttackCell(
        source=source,
        attack=attack.name,
        images=100,
        wrong=rate_of(evaded + detected, 100),
        detected=rate_of(detected, evaded + detected),
        evaded=rate_of(evaded, 100),
        auroc=0.5,
        l2=1.0 if source == "model" else 0.4,
        seconds=1.0,
        let_in=tuple(i < evaded for i in range(100)),
        moved=(1.0 if source == "model" else 0.4,) * 100,
    )


def test_every_detection_stands_beside_its_adaptive_one(held: Held) -> None:
    quick = budget("quick")
    found = [
        cell(a, 90 if a.kind == ADAPTIVE else 5, 0 if a.kind == ADAPTIVE else 95)
        for a in quick.attacks
    ]
    part = part_of(tuple(found), quick, held, 0)
    table = next(block for block in part.blocks if isinstance(block, Table))
    rows = {row[0]: row for row in table.rows}
    assert rows["PGD linf 8"][2:4] == ("95.00%", "5.00%")
    assert rows["PGD linf 8"][5:] == ("0.00%", "90.00%", "90.00%")
    assert CLAIM in to_markdown(part.blocks)
    assert any("at 2/255: of a plain one the gate finds 95.00%" in said for said in part.in_short)
    assert "Attacks at 2/255 succeed on 90.00% of images." in part.bad_news
    assert any("places succeeds on 90.00% only at 128/255" in bad for bad in part.bad_news)


def test_what_a_small_ball_holds_a_larger_one_does(held: Held) -> None:
    """Image by image, over attacks of one norm; a targeted attack has no ball."""
    quick = budget("quick")

    def made(attack: Attack) -> AttackCell:
        which = {"selective PGD linf 2": range(0, 30), "selective PGD linf 8": range(20, 40)}
        some = which.get(attack.name, range(0))
        some = range(90, 100) if attack.name == "selective PGD l2 0.5" else some
        everything = attack.eps == 255 or attack.kind == TARGETED
        let_in = tuple(everything or i in some for i in range(100))
        return replace(cell(attack, sum(let_in)), let_in=let_in)

    part = part_of(tuple(made(a) for a in quick.attacks), quick, held, 0)
    (table,) = (
        block for block in part.blocks if isinstance(block, Table) and block.heads[0] == "ball"
    )
    found = {row[0]: str(row[1]).split(" ")[0] for row in table.rows}
    assert found["linf 2"] == found["linf 4"] == "30%"
    assert found["linf 8"] == found["linf 32"] == "40%"
    assert found["linf 255"] == "100%"
    assert found["l2 0.5"] == "10%"


def test_an_attack_that_finds_less_in_a_larger_ball_is_bad_news(held: Held) -> None:
    """And one that reaches not nearly all in the largest, whatever begins at another class."""
    quick = budget("quick")
    success = {"selective PGD linf 8": 90, "selective PGD linf 32": 20}

    def news(largest: int) -> tuple[str, ...]:
        found = (
            cell(a, {**success, "selective PGD linf 128": largest}.get(a.name, 100))
            for a in quick.attacks
        )
        return part_of(tuple(found), quick, held, 0).bad_news

    fell = "selective PGD succeeds on 90.00% at 8/255 and on 20.00% at 32/255: read both as"
    assert any(fell in bad for bad in news(100))
    assert not any("only" in bad for bad in news(100))
    assert any("places succeeds on 60.00% only at 128/255" in bad for bad in news(60))


def test_perturbations_stand_beside_the_baselines(held: Held, resnet: Baseline) -> None:
    quick = budget("quick")
    beside = replace(held, baselines=(resnet,))
    plain = [a for a in quick.attacks if a.kind == TARGETED and not a.detection]
    found = [cell(a, 5) for a in quick.attacks] + [cell(a, 5, source="net") for a in plain]
    part = part_of(tuple(found), quick, beside, 0)
    text = to_markdown(part.blocks)
    assert b"<svg" in part.files["attacks_nearby.svg"]
    assert "(<attacks_nearby.svg>)" in text
    assert "ours over net" in text
    theirs = replace(cell(plain[0], 5, source="net"), moved=(None,) * 99 + (0.1,))
    found = [cell(a, 5) for a in quick.attacks] + [theirs]
    assert "10.00x" in to_markdown(part_of(tuple(found), quick, beside, 0).blocks)
    assert "2.50x" in text
