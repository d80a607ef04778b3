"""``oodgate explain`` as a user runs it: the figures, what is told, and what is refused."""

from __future__ import annotations

import io
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from model.image import decode
from model.quantize import as_input
from service.bundle import Bundle
from service.cli.explain_attack import plane_classes
from service.cli.explain_drawing import digits as digits_of
from service.cli.explain_drawing import number, percent, save
from service.cli.explain_figure import draw
from service.cli.explain_images import image_files, read_images
from service.cli.explain_similarity import clustered, draw_similarity, similarity
from service.cli.explain_subject import TOP, Explainer, chosen, even_contrast
from service.cli.explain_way import STEPS
from service.predictor import Predictor
from train.data import DataError, open_data
from train.evaluation.attack_run import AttackRun, write_attack_run
from train.evaluation.style import styled, to_svg

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one digit and one image of noise."""
    root = tmp_path_factory.mktemp("digits")
    (root / "digit.png").write_bytes(next(iter(open_data("digits:test"))).image)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(noise).save(root / "noise.png")
    return root


@pytest.fixture(scope="module")
def attack(digits: Path) -> Path:
    """A digit on its way into noise, aimed at nothing and at class 3."""
    ends = [np.asarray(Image.open(digits / name).convert("L")) for name in sorted(names(digits))]
    shares = np.linspace(0, 1, 3)[:, None, None]
    steps = ((1 - shares) * ends[0] + shares * ends[1]) / 255
    images = np.stack([steps, steps])[:, :, None].astype(np.float32)
    run = AttackRun(images=images, labels=np.array([0, 0]), targets=np.array([-1, 3]))
    write_attack_run(digits.parent / "attack.npz", run)
    return digits.parent / "attack.npz"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_images(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                assert min(image.size) > 300
        else:
            assert ElementTree.fromstring(path.read_bytes()).tag.endswith("svg")


def test_every_figure_twice_the_same(
    oodgate: Run, bundle_dir: Path, digits: Path, attack: Path, resnet_dir: Path, tmp_path: Path
) -> None:
    asked = ("explain", bundle_dir, digits, "--compare", resnet_dir, "--attack", attack)
    code, out, _ = oodgate(*asked, "--out", tmp_path / "a")
    assert code == 0
    assert "digit: " in out
    assert "Most probable class" in out
    assert str(tmp_path / "a" / "noise.svg") in out
    figures = ("digit", "noise", "class-similarity", "attack-trajectories")
    assert names(tmp_path / "a") == {
        f"{name}.{kind}" for name in figures for kind in ("png", "svg")
    }
    check_images(tmp_path / "a")
    assert oodgate(*asked, "--out", tmp_path / "b")[0] == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_one_format_and_a_class(
    oodgate: Run, bundle_dir: Path, digits: Path, tmp_path: Path
) -> None:
    words = (
        "--class",
        "3",
        "--contrast",
        0.5,
        "--format",
        "svg",
        "--out",
        tmp_path / "new" / "out",
    )
    code, _, err = oodgate("explain", bundle_dir, digits / "digit.png", *words)
    assert (code, err) == (0, "")
    assert names(tmp_path / "new" / "out") == {"digit.svg", "class-similarity.svg"}


def test_images_that_cannot_be_read(
    oodgate: Run, bundle_dir: Path, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "junk.png").write_bytes(b"junk")
    places = (tmp_path / "junk.png", digits / "digit.png", tmp_path / "nothing.png")
    code, out, err = oodgate(
        "explain", bundle_dir, *places, "--format", "png", "--out", tmp_path / "out"
    )
    assert code == 1
    assert "digit: " in out
    assert f"{tmp_path / 'junk.png'}: " in err
    assert f"{tmp_path / 'nothing.png'}: No such file or directory" in err
    assert "2 of 3 images could not be explained" in err
    assert names(tmp_path / "out") == {"digit.png", "class-similarity.png"}


def test_what_a_user_can_mend(
    oodgate: Run,
    bundle_dir: Path,
    digits: Path,
    attack: Path,
    flow_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*words: object) -> str:
        code, _, err = oodgate("explain", bundle_dir, *words, "--out", tmp_path / "out")
        assert code == 2
        assert not (tmp_path / "out").exists()
        return err

    image = digits / "digit.png"
    assert "Missing argument" in refused()
    (tmp_path / "empty").mkdir()
    assert "found no image in this folder" in refused(tmp_path / "empty")
    assert "error: --class 'x': expected one like 0, 1" in refused(image, "--class", "x")
    for contrast in (0, -1, "nan", "inf"):
        assert "expected a number above 0" in refused(image, "--contrast", contrast)
    assert "Invalid value for '--format'" in refused(image, "--format", "pdf")
    err = refused(image, "--attack", tmp_path / "nothing.npz")
    assert f"{tmp_path / 'nothing.npz'}: No such file or directory; expected a .npz" in err
    assert "expected a .npz with images" in refused(image, "--attack", image)
    write_attack_run(
        tmp_path / "wide.npz",
        AttackRun(
            images=np.zeros((1, 2, 1, 9, 9), np.float32),
            labels=np.zeros(1, np.int64),
            targets=np.zeros(1, np.int64),
        ),
    )
    err = refused(image, "--attack", tmp_path / "wide.npz")
    assert f"error: --attack {tmp_path / 'wide.npz'}: images: found (1, 9, 9) pixels" in err
    assert "found a flow, expected a ResNet baseline" in refused(image, "--compare", flow_dir)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "oodgate[figures]"' in refused(image)


def test_nothing_is_written_over(
    oodgate: Run, bundle_dir: Path, digits: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(digits, tmp_path / "own")
    before = (own / "digit.png").read_bytes()
    code, _, err = oodgate("explain", bundle_dir, own, "--out", own)
    assert code == 2
    assert "is not an empty folder" in err
    assert (own / "digit.png").read_bytes() == before


def test_help(oodgate: Run) -> None:
    code, out, _ = oodgate("explain", "--help")
    assert code == 0
    assert "Draw why the model answers as it does" in " ".join(out.split())


def test_names_are_unlike(bundle: Bundle, digits: Path, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "b/X.PNG", "class-similarity.png", "deeper/no.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(digits / "digit.png", tmp_path / name)
    places = [tmp_path / "a", tmp_path / "b", tmp_path / "class-similarity.png", tmp_path / "a"]
    sights = list(read_images(image_files(places), bundle.spec, ("class-similarity",)))
    assert [sight.name for sight in sights] == ["x", "X-2", "x-3", "class-similarity-2"]
    assert all(sight.pixels is not None for sight in sights)
    with pytest.raises(DataError, match="found no image"):
        image_files([tmp_path / "deeper"])


def test_subject(bundle: Bundle, digits: Path) -> None:
    """Maps add up to the answer, and the way begins at the image and leads to the other class."""
    predictor = Predictor(bundle, "cpu")
    pixels = decode((digits / "digit.png").read_bytes(), bundle.spec)
    (verdict,) = predictor(pixels[None])
    subject = Explainer(predictor)("digit", pixels)
    assert subject.found.verdict == verdict
    assert subject.shown[0] == verdict.class_index
    assert len(subject.shown) == TOP
    sums = subject.found.heatmaps[list(subject.shown)].sum((1, 2))
    expected = np.log([verdict.posterior[k] for k in subject.shown])
    np.testing.assert_allclose(sums, expected, atol=1e-3)
    way = subject.way
    assert way is not None
    np.testing.assert_array_equal(way.images[0], pixels)
    assert way.verdicts[0].p_value == verdict.p_value
    assert len(way.images) == 2 * STEPS - 1
    assert way.shares[STEPS - 1] == pytest.approx(0.5)
    assert (np.diff(way.shares) > 0).all()
    assert (way.source, way.target) == tuple(bundle.class_labels[k] for k in subject.shown[:2])


def test_asking_for_a_class(bundle: Bundle, digits: Path) -> None:
    predictor = Predictor(bundle, "cpu")
    pixels = decode((digits / "digit.png").read_bytes(), bundle.spec)
    first, second = Explainer(predictor)("digit", pixels).shown[:2]
    unlikely = Explainer(predictor, asked=second)("digit", pixels)
    assert unlikely.shown == (second, first)
    assert unlikely.way is not None
    assert unlikely.way.target == bundle.class_labels[second]
    itself = Explainer(predictor, asked=first, contrast=1.0)("digit", pixels)
    assert itself.shown == (first,)
    assert itself.contrast == 1.0
    assert itself.way is not None
    assert itself.way.target == bundle.class_labels[second]


def test_chosen_classes() -> None:
    assert chosen([2, 0, 1, 3], None) == ((2, 0, 1), 0)
    assert chosen([2, 0, 1, 3], 3) == ((3, 2), 3)
    assert chosen([2, 0, 1, 3], 2) == ((2,), 0)
    assert chosen([0], None) == ((0,), None)


def words(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def test_the_reference_in_words(bundle: Bundle, digits: Path) -> None:
    """As many images as bars count, and whose rank the p-value is, by the mode."""
    predictor = Predictor(bundle, "cpu")
    pixels = decode((digits / "digit.png").read_bytes(), bundle.spec)
    subject = Explainer(predictor)("digit", pixels)
    count = int(subject.found.reference.counts.sum())
    label = subject.found.verdict.class_label
    told = {
        "marginal": f"S of {count:,} held-out images. What",
        "predicted_class": f"S of the {count:,} held-out images that are predicted as {label}.",
        "label_shift_safe": f"S of {count:,} held-out images of all classes. The p-value is the "
        "largest of those among each class's images: here among the 95 of the class",
    }
    for mode, expected in told.items():
        verdict = replace(subject.found.verdict, mode=mode, reference_size=95)
        found = replace(subject, found=replace(subject.found, verdict=verdict))
        with styled():
            shown = words(draw(found))
        assert expected in shown
        assert "each circle holds at least 90% of its class" in shown


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite(bundle_dir: Path, digits: Path, tmp_path: Path) -> None:
    """A network that has lost its numbers: dashes, and no way to another class."""
    bundle = Bundle.load(bundle_dir)
    with torch.no_grad():
        next(bundle.checkpoint.classifier.parameters()).fill_(torch.nan)
    pixels = decode((digits / "digit.png").read_bytes(), bundle.spec)
    subject = Explainer(Predictor(bundle, "cpu"))("digit", pixels)
    assert subject.way is None
    with styled():
        figure = draw(subject)
        save(figure, tmp_path, "lost", ("png", "svg"))
    shown = words(figure)
    for part in ("log posterior – nats", "log p(x) – nats", "S –, beyond", "no finite place"):
        assert part in shown
    assert not re.search(r"\b(nan|inf)\b|<0.1%", shown)


def test_numbers_in_words() -> None:
    assert [percent(x) for x in (np.nan, -np.inf, 0.0, np.log(0.5))] == [
        "–", "<0.1%", ">99.9%", "50.0%",
    ]  # fmt: skip
    assert [number(x) for x in (np.nan, np.inf, -0.001, -1234.5)] == ["–", "–", "0", "−1,234.5"]
    assert [digits_of(x) for x in (np.nan, 0.01234)] == ["–", "0.012"]


def test_an_even_prototype_has_no_contrast(bundle: Bundle, digits: Path) -> None:
    pixels = decode((digits / "digit.png").read_bytes(), bundle.spec)
    subject = Explainer(Predictor(bundle, "cpu"))("digit", pixels)
    assert subject.way is not None
    even = replace(subject.way, prototypes=np.zeros_like(subject.way.prototypes))
    with styled():
        shown = words(draw(replace(subject, way=even)))
    assert shown.count("prototype, contrast –") == 2


def test_even_contrast() -> None:
    logits = np.array([40.0, 0.0, -3.0, -10.0])
    weights = np.exp(even_contrast(logits) * logits)
    assert weights[0] / weights.sum() == pytest.approx(0.625, abs=1e-4)
    assert even_contrast(np.array([0.1, 0.0, 0.0])) == 1.0
    assert even_contrast(np.array([2.0])) == 1.0
    assert even_contrast(np.array([np.nan, 0.0])) == 1.0


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_pixels_come_back_as_their_levels(levels: int) -> None:
    level = torch.arange(levels)
    centres = ((level + 0.5) / levels)[None, None]
    expected = (level.double() * 255 / (levels - 1)).round().numpy()
    np.testing.assert_array_equal(as_input(centres, levels)[0, 0], expected)
    beyond = torch.tensor([[[-3.0, 7.0, float("nan")]]])
    assert as_input(beyond, levels).tolist() == [[[0, 255, 0]]]


def test_like_classes_stand_side_by_side() -> None:
    """Three clusters of points, shuffled."""
    random = np.random.default_rng(0)
    group = random.permutation(np.repeat([0, 1, 2], 5))
    points = np.eye(3)[group] * 10 + random.normal(size=(15, 3))
    distances = np.sqrt(((points[:, None] - points) ** 2).sum(2))
    ordered = group[clustered(distances)]
    assert (np.diff(ordered) != 0).sum() == 2
    for count in (1, 2):
        assert clustered(np.zeros((count, count))).tolist() == list(range(count))


def test_similarity_is_of_the_classes_named(bundle: Bundle) -> None:
    classifier = bundle.checkpoint.classifier
    found = similarity(classifier, bundle.class_labels)
    assert sorted(found.labels) == sorted(bundle.class_labels)
    first, last = (bundle.class_labels.index(found.labels[i]) for i in (0, -1))
    ends = classifier.class_means.of(torch.tensor([first, last])).detach().double()
    assert found.distances[0, -1] == pytest.approx(float((ends[0] - ends[1]).norm()), rel=1e-5)
    assert found.confidences[0, -1] < 0.5


@pytest.mark.parametrize("count", [1, 2, 30, 200])
def test_similarity_of_so_many_classes(count: int, bundle: Bundle) -> None:
    from service.cli.explain_similarity import Similarity

    points = np.random.default_rng(0).normal(size=(count, 3))
    distances = np.sqrt(((points[:, None] - points) ** 2).sum(2))
    labels = tuple(f"a class by a long name, number {k}" for k in range(count))
    found = Similarity(labels=labels, distances=distances, confidences=distances / 100)
    with styled():
        figure = draw_similarity(found)
        assert to_svg(figure).startswith(b"<?xml")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    assert len(figure.axes[0].get_yticks()) <= 60


def test_plane_of_an_attack() -> None:
    """The original's class, then the target or what it became, and never one twice."""
    logits = np.zeros((2, 7))
    logits[0] = [0, 6, 5, 4, 3, 2, 1]
    logits[1, 6] = 9
    assert plane_classes(logits, -1) == [1, 6, 2, 3, 4]
    assert plane_classes(logits, 0) == [1, 0, 2, 3, 4]
    assert plane_classes(logits[[0, 0]], -1) == [1, 2, 3, 4, 5]
