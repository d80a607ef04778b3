"""The page at ``/try`` in a real browser, before the real application."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from service.try_page import FILES, FOLDER, POLICY
from tests.integration.try_scenes import (
    DESKTOP,
    MAX_BYTES,
    PHONE,
    Tried,
    application,
    chromium,
    live,
    picture,
)
from train.evaluation.style import BLUE, DARK, ORANGE

pytestmark = pytest.mark.integration

Open = Callable[..., Tried]
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def url(bundle_dir: Path) -> Iterator[str]:
    with live(application(bundle_dir)) as address:
        yield address


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Open]:
    """Opens the page; in the end none of them may have complained."""
    pages = []

    def open_page(address: str = url, **options: Any) -> Tried:
        pages.append(Tried(browser, address, **options))
        return pages[-1]

    yield open_page
    complaints = [line for tried in pages for line in tried.complaints]
    for tried in pages:
        tried.context.close()
    assert complaints == []


def explained(url: str, image: bytes) -> dict[str, Any]:
    """What the service says of an image."""
    answer = httpx.post(f"{url.removesuffix('/try')}/v1/explain?heatmaps=10", content=image)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


def changed(tried: Tried, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the service explains on its way to the page."""

    def answer(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        change(body)
        route.fulfill(response=response, json=body)

    tried.page.route(re.compile("/v1/explain"), answer)


def color(name: str) -> str:
    """As a browser says ``#rrggbb``."""
    return "rgb({}, {}, {})".format(*bytes.fromhex(name[1:]))


def test_an_uploaded_image_is_answered_with_all_reasons(
    opened: Open, url: str, images: dict[str, bytes]
) -> None:
    expected = explained(url, images["3"])
    verdict, reference = expected["verdict"], expected["reference"]
    tried = opened()
    tried.upload("three.png", images["3"])
    assert tried.answered() == verdict["decision"]
    assert tried.text("class").startswith(f"{verdict['class']['label']}, ")
    labels = tried.page.locator("#posterior li span").all_inner_texts()
    assert labels == [entry["label"] for entry in verdict["posterior"]]
    assert tried.text("set") == ", ".join(verdict["prediction_set"])
    assert float(tried.text("p")) == pytest.approx(verdict["p_value"], rel=0.05)
    assert tried.numbers("#histogram rect", "data-count") == reference["counts"]
    assert tried.page.locator("#here").count() == tried.page.locator("#limit").count() == 1
    left, right = (tried.numbers(f"#{mark}", "x1")[0] for mark in ("here", "limit"))
    assert (left > right) == verdict["rejected"]
    count = round(verdict["p_value"] * (verdict["reference_size"] + 1)) - 1
    assert f"{count} of {verdict['reference_size']} reference images" in tried.text("reason")
    means = tried.page.locator("#plane .mean").count()
    assert means == len(expected["decision_plane"]["classes"])
    names = tried.page.locator("#evidence tr th, #rest tr th").evaluate_all(
        "all => all.map(e => e.firstChild.textContent)"
    )
    assert names == [one["name"] for one in expected["evidence"]["statistics"]]
    seen = tried.page.locator("#seen")
    assert seen.get_attribute("src") == f"data:image/png;base64,{expected['image']['png']}"
    assert seen.get_attribute("alt") == "the image as the model sees it, 8 × 8 pixels"


def test_the_selector_changes_the_heatmap(opened: Open, url: str, images: dict[str, bytes]) -> None:
    expected = explained(url, images["1"])
    tried = opened()
    tried.upload("one.png", images["1"])
    tried.answered()
    options = tried.page.locator("#heat-of option").all_inner_texts()
    assert len(options) == len(expected["heatmaps"]) + 1
    for k in (0, 2):
        heatmap = expected["heatmaps"][k]
        tried.page.select_option("#heat-of", str(k))
        flat = [value for row in heatmap["values"] for value in row]
        assert tried.numbers("#heat rect", "data-value") == pytest.approx(flat, rel=1e-3, abs=1e-3)
        assert f"speaks for {heatmap['label']}, blue" in tried.text("heat-note")
        spoken = tried.page.locator("#heat").get_attribute("aria-label") or ""
        assert spoken.startswith(f"Heatmap for {heatmap['label']}: most for it ")
        drawn = (
            tried.page.locator("#heat .for").count(),
            tried.page.locator("#heat .against").count(),
        )
        assert drawn == (sum(v >= 0 for v in flat), sum(v < 0 for v in flat))
        signs = tried.page.locator("#heat text").all_text_contents()
        assert set(signs) <= {"+", "−"}
    tried.page.select_option("#heat-of", "strange")
    assert "farther from its class" in tried.text("heat-note")


def test_colours_are_those_of_the_figures(opened: Open, images: dict[str, bytes]) -> None:
    for dark in (False, True):
        tried = opened(dark=dark)
        tried.upload("one.png", images["1"])
        tried.answered()
        tried.page.select_option("#heat-of", "0")
        orange, blue = (DARK[ORANGE], DARK[BLUE]) if dark else (ORANGE, BLUE)
        expected = {
            ("#heat .for", "fill"): ORANGE,
            ("#heat .against", "fill"): BLUE,
            ("td.adds:not(.less) i", "background-color"): orange,
            ("#plane .mean", "fill"): blue,
        }
        for (selector, style), wanted in expected.items():
            found = tried.page.locator(selector).first.evaluate(
                "(e, style) => getComputedStyle(e)[style]", style
            )
            assert found == color(wanted), selector


def test_the_page_asks_for_no_more_than_it_shows(opened: Open, images: dict[str, bytes]) -> None:
    answers: list[dict[str, Any]] = []
    tried = opened()
    changed(tried, answers.append)
    with tried.page.expect_request(re.compile(r"/v1/explain\?(.*&)?png=0(&|$)")):
        tried.upload("one.png", images["1"])
    tried.answered()
    assert {heatmap["png"] for heatmap in answers[0]["heatmaps"]} == {None}
    assert tried.text("posterior-note").startswith("Calibrated probability of each class. ")


def test_of_many_classes_the_most_probable(opened: Open, images: dict[str, bytes]) -> None:
    def many(body: dict[str, Any]) -> None:
        body["verdict"] |= {
            "posterior": [{"label": f"class {k}", "probability": 1 / 30} for k in range(21)],
            "rejected": False,
        }

    tried = opened()
    changed(tried, many)
    tried.upload("one.png", images["1"])
    tried.answered()
    assert tried.page.locator("#posterior li").count() == 10
    assert "probability of the 10 most probable classes." in tried.text("posterior-note")


@pytest.mark.parametrize(
    ("mode", "ranked", "counted"),
    [
        ("marginal", "71 of 95 reference images are", "The bars count the {n} reference images,"),
        (
            "predicted_class",
            "71 of the 95 reference images that are predicted as 3 are",
            "The bars count these {n} reference images,",
        ),
        (
            "label_shift_safe",
            "71 of the 95 reference images of the class that it is least strange to are",
            "p is the largest, over the classes, of the share of a class's reference images that "
            "are at least as strange: 71 of the 95 reference images of the class that it is least "
            "strange to are at least as strange. The bars count the {n} reference images of all "
            "classes,",
        ),
    ],
)
def test_ranks_are_worded_by_the_mode(
    mode: str, ranked: str, counted: str, opened: Open, images: dict[str, bytes]
) -> None:
    answers: list[dict[str, Any]] = []

    def moded(body: dict[str, Any]) -> None:
        body["verdict"] |= {"mode": mode, "reference_size": 95, "p_value": 72 / 96}
        body["verdict"]["class"]["label"] = "3"
        answers.append(body)

    tried = opened()
    changed(tried, moded)
    tried.upload("three.png", images["3"])
    tried.answered()
    for element in ("reason", "histogram-note"):
        assert f"{ranked} at least as strange" in tried.text(element)
    n = f"{sum(answers[0]['reference']['counts']):,}"
    assert counted.format(n=n) in tried.text("histogram-note")
    spoken = tried.page.locator("#histogram").get_attribute("aria-label") or ""
    assert f"S of {n} reference images" in spoken
    assert "holds at least 90% of that class" in tried.text("plane-note")


def test_a_stranger_is_rejected_in_words(opened: Open) -> None:
    tried = opened()
    tried.sampled()
    tried.press("strangers", "noise")
    assert tried.answered() == "reject"
    reason = tried.text("reason")
    assert reason.startswith("This image is not like those that the model has learned: ")
    assert "are rejected" in reason
    assert "What gives it away most: " in reason
    assert tried.page.input_value("#heat-of") == "strange"
    assert "probably none of them" in tried.text("posterior-note")
    assert tried.page.get_attribute("#strangers [aria-pressed=true]", "aria-pressed") == "true"


def test_each_sample_and_each_stranger_gets_a_verdict(opened: Open) -> None:
    """Whichever: a network of a few epochs does not know what it draws."""
    tried = opened()
    tried.sampled()
    names = tried.page.locator("#strangers button").all_inner_texts()
    assert names == ["noise", "stripes", "blank", "smiley"]
    samples = tried.page.locator("#samples button")
    assert samples.count() == 8
    for tile in [samples.first, *tried.page.locator("#strangers button").all()]:
        tile.click()
        assert tried.answered() in ("accept", "abstain", "reject")
    before = samples.locator("img").first.get_attribute("src")
    tried.page.click("#more")
    expect(samples.locator("img").first).not_to_have_attribute("src", before or "")


def test_images_may_be_dropped_or_pasted(opened: Open, images: dict[str, bytes]) -> None:
    tried = opened()
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        event = {"kind": kind, "field": field, "image": base64.b64encode(images["2"]).decode()}
        asking = tried.page.evaluate(
            """({kind, field, image}) => {
              const bytes = Uint8Array.from(atob(image), c => c.charCodeAt(0));
              const held = new DataTransfer();
              held.items.add(new File([bytes], `${kind}.png`, {type: "image/png"}));
              const made = {drop: DragEvent, paste: ClipboardEvent}[kind];
              document.body.dispatchEvent(
                new made(kind, {[field]: held, bubbles: true, cancelable: true}));
              return document.getElementById("reason").textContent; // before any answer
            }""",
            event,
        )
        assert asking == f"The service looks at {kind}.png."
        tried.answered()
    tried.page.evaluate(
        "document.body.dispatchEvent(new ClipboardEvent('paste', "
        "{clipboardData: new DataTransfer(), bubbles: true, cancelable: true}))"
    )
    assert tried.text("fault").endswith("copy an image, or choose a file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image at all", "15 bytes that are not an image: expected one of PNG"),
        (b"", "the image is empty"),
        (bytes(MAX_BYTES + 1), f"the image is over the limit of {MAX_BYTES:,} bytes"),
    ],
    ids=["not_an_image", "empty", "too_large"],
)
def test_the_service_says_what_is_wrong_with_an_image(
    content: bytes, message: str, opened: Open, images: dict[str, bytes]
) -> None:
    tried = opened()
    tried.upload("good.png", images["0"])
    tried.answered()
    tried.upload("bad.png", content)
    tried.page.wait_for_selector("#fault:not(:empty)")
    assert message in tried.text("fault")
    assert tried.text("decision") == "no verdict"
    assert tried.text("reason") == "The service has not judged bad.png."
    assert not tried.page.is_visible("#result")
    assert not tried.page.is_visible("#again")
    tried.upload("good.png", images["0"])
    tried.answered()
    assert tried.text("fault") == ""


def test_a_new_image_ends_the_question_before(opened: Open, images: dict[str, bytes]) -> None:
    held: list[Route] = []
    tried = opened()
    tried.page.route(
        re.compile("/v1/explain"), lambda route: route.continue_() if held else held.append(route)
    )
    with tried.page.expect_request(re.compile("/v1/explain")):
        tried.upload("first.png", b"no image")
    assert tried.text("reason") == "The service looks at first.png."
    tried.upload("second.png", images["3"])
    decision = tried.answered()
    held[0].continue_()
    tried.page.wait_for_timeout(500)
    assert tried.text("fault") == ""
    assert tried.text("decision") == decision


def test_an_overloaded_service_may_be_asked_again(
    bundle_dir: Path, opened: Open, images: dict[str, bytes]
) -> None:
    with live(application(bundle_dir, max_waiting=0)) as full:
        tried = opened(full)
        tried.upload("zero.png", images["0"])
        tried.page.wait_for_selector("#again:not([hidden])")
        assert "overload" in tried.text("fault") or "try again" in tried.text("fault")
        tried.page.route(
            re.compile("/v1/explain"),
            lambda route: route.fulfill(status=503, body='{"error": "still", "code": "x"}'),
        )
        tried.page.click("#again")
        expect(tried.page.locator("#fault")).to_have_text("still")


def test_the_keyboard_alone_is_enough(opened: Open) -> None:
    tried = opened()
    tried.sampled()
    keyboard = tried.page.keyboard

    def until(found: str) -> None:
        for _ in range(30):
            keyboard.press("Tab")
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert tried.page.evaluate(outline) != "none"
            if tried.page.evaluate("s => document.activeElement.matches(s)", found):
                return
        raise AssertionError(f"Tab does not reach {found}")

    until("#file")
    until("#samples button")
    keyboard.press("Enter")
    tried.answered()
    until("#strangers button")
    keyboard.press("Enter")
    tried.page.wait_for_selector("#strangers [aria-pressed=true]")
    tried.answered()
    until("#heat-of")
    before = tried.numbers("#heat rect", "data-value")
    keyboard.press("ArrowUp")
    assert tried.numbers("#heat rect", "data-value") != before
    until("summary")
    keyboard.press("Enter")
    assert tried.page.is_visible("#rest")


def test_a_key_is_asked_for_where_one_is_needed(
    bundle_dir: Path, opened: Open, images: dict[str, bytes]
) -> None:
    with live(application(bundle_dir, KEY)) as locked:
        tried = opened(locked)
        tried.page.wait_for_selector("#key:not([hidden])")
        assert "an API key is needed" in tried.text("fault")
        tried.upload("three.png", images["3"])
        expect(tried.page.locator("#key-field")).to_be_focused()
        for key in ("another", KEY):
            tried.page.fill("#key-field", key)
            with tried.page.expect_response(re.compile("/v1/samples")):
                tried.page.keyboard.press("Enter")
            if key != KEY:
                tried.page.wait_for_selector("#key:not([hidden])")
                tried.page.focus("#key-field")
        tried.answered()
        assert not tried.page.is_visible("#key")
        tried.page.reload()
        tried.sampled()
        assert not tried.page.is_visible("#key")
        assert KEY not in tried.page.content()


def test_the_address_may_name_a_model(opened: Open, url: str, images: dict[str, bytes]) -> None:
    tried = opened(f"{url}#model=none-such")
    tried.page.wait_for_selector("#fault:not(:empty)")
    assert "no model 'none-such' is served" in tried.text("fault")
    name = explained(url, images["3"])["verdict"]["model"]["name"]
    opened(f"{url}#model={name}").sampled()


def test_labels_are_text(opened: Open, images: dict[str, bytes]) -> None:
    label = "<img src=x onerror=alert(1)>&amp;"

    def named(body: dict[str, Any]) -> None:
        verdict = body["verdict"]
        verdict["class"]["label"] = verdict["posterior"][0]["label"] = label
        verdict["prediction_set"] = [label]
        body["heatmaps"][0]["label"] = body["decision_plane"]["classes"][0]["label"] = label
        body["evidence"]["statistics"][0]["name"] = label

    tried = opened()
    changed(tried, named)
    tried.upload("three.png", images["3"])
    tried.answered()
    assert tried.text("set") == label
    assert label in tried.text("class")
    assert label in tried.page.locator("#heat-of option").first.inner_text()
    assert label in tried.page.locator("#evidence").inner_text()
    assert tried.page.locator("#result img").count() == 0


def test_what_is_not_finite_is_shown_as_such(opened: Open, images: dict[str, bytes]) -> None:
    def lost(body: dict[str, Any]) -> None:
        body["reference"] |= {"score": None, "rejected_above": None}
        body["decision_plane"] |= {"image": {"x": None, "y": None}, "boundary": None}
        body["heatmaps"][0]["log_posterior"] = None
        for values in (body["energy"]["values"], body["heatmaps"][0]["values"]):
            values[0] = [None] * len(values[0])
        for statistic in body["evidence"]["statistics"]:
            statistic |= {"p_value": None, "contribution": None, "value": None}
        body["evidence"]["views"] = {}

    tried = opened()
    changed(tried, lost)
    tried.upload("three.png", images["3"])
    tried.answered()
    assert "farther out" in tried.page.locator("#histogram").text_content()  # type: ignore[operator]
    assert "At this alpha each image is rejected." in tried.text("histogram-note")
    assert tried.page.locator("#plane circle").count() == 0
    shown = tried.page.inner_text("main") + (tried.page.inner_html("main"))
    assert not re.search(r"\b(NaN|null|undefined|Infinity)\b", shown)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_is_accessible_and_fits(
    size: tuple[int, int], dark: bool, opened: Open, images: dict[str, bytes]
) -> None:
    tried = opened(size=size, dark=dark)
    tried.sampled()
    assert grave(tried) == []
    tried.upload("three.png", images["3"])
    tried.answered()
    tried.page.click("summary")
    assert grave(tried) == []
    assert tried.wide() == 0


def grave(tried: Tried) -> list[str]:
    """What axe finds wrong, seriously or critically."""
    violations = Axe().run(tried.page).response["violations"]
    return [
        f"{found['id']}: {node['html']}"
        for found in violations
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def test_nothing_comes_from_elsewhere(opened: Open, url: str, images: dict[str, bytes]) -> None:
    tried = opened("about:blank")
    asked: list[str] = []
    tried.page.on("request", lambda request: asked.append(request.url))
    page = tried.page.goto(url)
    assert page is not None
    assert page.headers["content-security-policy"] == POLICY
    tried.sampled()
    tried.upload("three.png", images["3"])
    tried.answered()
    origin = url.removesuffix("try")
    assert {one for one in asked if not one.startswith(("data:", "blob:", origin))} == set()
    paths = {"/" + one.removeprefix(origin) for one in asked if one.startswith(origin)}
    assert set(FILES) <= paths
    assert {file.name for file in FOLDER.iterdir()} == set(FILES.values())


def test_the_picture_for_the_readme(tmp_path: Path, browser: Browser, url: str) -> None:
    picture(browser, url, "1", tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as shot:
        assert shot.width == DESKTOP[0]
        assert 1000 < shot.height < 3000
    assert (tmp_path / "page.png").stat().st_size < 250_000
