"""The page at ``/`` in a real Chromium, which draws what it reads from ``/metrics``."""

from __future__ import annotations

import html
import json
import re
import time
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import betabinom

from service import metrics, status_page
from service.exposition import exposition
from service.tally import Tally
from tests.integration.status_scenes import (
    alarmed,
    drift,
    drift_in_sight,
    images,
    picture,
    requests,
    seen,
    served_model,
    serving,
)

pytestmark = pytest.mark.integration

#: Judged are ten bars at once, each on both sides.
TAIL = 0.01 / 10 / 2
#: Reference images and images seen; few, many, and numbers that ten does not divide.
SIZES = [(5000, 6218), (215, 400), (99, 100), (20, 300), (7, 100), (1000, 20_000)]
#: What the service's clock says, in seconds since 1970: years before the browser's.
NOW = 1_600_000_000
CHANGED = "the images have changed"
#: A score of 4 and a budget of one alarm in 30 days at 100 images/s.
WAY = f"{100 * 4 / np.log(30 * 86_400 * 100):.1f}% of the way to"
#: More images than terms that the page adds up.
MANY = (4999, 2_000_000)


def text_of(page: str, element: str) -> str:
    """What stands in the element of that id, without its tags."""
    found = re.search(rf'<(\w+)[^>]*\bid="{element}"[^>]*>(.*?)</\1>', page, re.S)
    assert found, element
    return html.unescape(re.sub(r"<[^>]+>", " ", found[2])).strip()


def words_of(page: str, element: str) -> list[str]:
    return re.split(r"\s{2,}", text_of(page, element))


def numbers_of(page: str, attribute: str) -> list[float]:
    return [float(value) for value in re.findall(rf'\b{attribute}="([\d.]+)"', page)]


def steps(count: int) -> list[float]:
    """p-values that are as even as can be."""
    return [(i + 0.5) / count for i in range(count)]


def model(version: str = "v1", count: int = 500, name: str = "digits", **more: Any) -> Tally:
    """A model whose images are typical."""
    tally = Tally()
    served_model(tally, name, version, more.get("reference", 5000))
    images(tally, name, steps(count))
    tally.count(metrics.RELOADS, "swapped", by=more.get("swapped", 0))
    return tally


def told(tally: Tally) -> str:
    return exposition(tally, "")[0].decode()


def exact_band(n: int, m: int) -> tuple[list[int], list[int]]:
    """What ``betabinom.ppf`` gives at TAIL and 1 - TAIL, from its own probabilities."""
    edges = [j * (n + 1) // 10 for j in range(11)]
    found = {}
    for a in {after - before for before, after in pairwise(edges)}:
        if a == 0:
            found[a] = (0, 0)
            continue
        pmf = betabinom.pmf(np.arange(m + 1), m, a, n + 1 - a)
        above = pmf[::-1].cumsum()[::-1]  # P(K >= k)
        low = int(np.searchsorted(pmf.cumsum(), TAIL))
        found[a] = (low, int(np.flatnonzero(above > TAIL)[-1]))
    bars = [found[after - before] for before, after in pairwise(edges)]
    return [low for low, _ in bars], [high for _, high in bars]


#: Runs behind the page's own script; ``scene`` shows one text of metrics after the other.
_HARNESS = """
const found = {};
function scene(texts, hash, date = INPUT.date) {
  for (const map of [grown, versions, swaps]) map.clear();
  latest = null;
  location.hash = hash;
  for (const text of texts) take(parsed(text), date);
  show();
  return document.querySelector("header").outerHTML + document.querySelector("main").outerHTML;
}
const INPUT = %s;
found.bands = INPUT.sizes.map(([n, m]) => band(n, m));
found.durations = INPUT.durations.map(duration);
found.scenes = {};
for (const [name, [texts, hash]] of Object.entries(INPUT.scenes))
  found.scenes[name] = scene(texts, hash);
found.undated = scene([INPUT.undated], "", null);
scene(INPUT.scenes.version_all[0], "#span=all");
$("span").value = "recent";
$("span").dispatchEvent(new Event("change"));
found.chosen = [location.hash, $("histogram-note").textContent];
let asked = 0;
fetch = (_, {signal}) => ++asked === 1
  ? new Promise((_, refuse) => signal.addEventListener("abort", () => refuse(signal.reason)))
  : (found.late = found.late || [$("up").textContent, $("fault").textContent],
     latency = () => { throw new Error("drawn wrongly"); },
     Promise.resolve(new Response("oodgate_shed_total 1\\n")));
setTimeout(() => {
  found.failed = [$("up").textContent, $("fault").textContent];
  document.body.append(made("pre", {id: "found", textContent: JSON.stringify(found)}));
}, 10500);
"""


def _drifting(
    alarms: int = 0, ago: float = 10, window: int = 1000, version: str = "v1", now: float = NOW
) -> Tally:
    """``ago``: seconds since the last alarm."""
    tally = model(version)
    drift(tally, "digits", 4.0, window, {"ladj_2": 1.0, "score": 3.14, "entropy": 2.0, "x": 1.5})
    if alarms:
        alarmed(tally, "digits", alarms, now - ago)
    return tally


def _unmeasured(alarms: int, ago: float) -> Tally:
    """A service that no longer tells how far the next alarm is."""
    tally = model()
    alarmed(tally, "digits", alarms, NOW - ago)
    return tally


def _two() -> Tally:
    both = model(count=500)
    both.merge(model("w1", 300, name="other"))
    return both


SWAP = [model("v1", 500), model("v1", 620), model("v2", 800), model("v2", 1150)]
SCENES = {
    "version_all": (SWAP, "span=all"),
    "version_recent": (SWAP, "span=recent"),
    "swapped_before": ([model(swapped=1)], ""),
    "few": ([model(count=99)], ""),
    "enough": ([model(count=100)], ""),
    "two_models": ([_two(), _two()], "model=other&span=all"),
    "unknown_model": ([_two()], "model=gone"),
    "no_reference": ([model(reference=0)], ""),
    "no_image": ([model(count=0)], ""),
    "no_alarm": ([_drifting()], ""),
    "small_window": ([_drifting(window=99)], ""),
    "alarm_10_s": ([_drifting(1, 10)], ""),
    "alarm_59_min": ([_drifting(2, 59 * 60)], ""),
    "alarm_61_min": ([_drifting(2, 61 * 60)], ""),
    "alarm_3_h": ([_drifting(2, 3 * 3600)], ""),
    "alarm_to_come": ([_drifting(1, -5)], ""),
    "recent": ([_drifting(1, 7000), _drifting(3, 10)], "span=recent"),
    "recent_one": ([_drifting(1, 7000), _drifting(2, 10)], "span=recent"),
    "recent_none": ([_drifting(1, 10)] * 2, "span=recent"),
    "recent_old": ([_drifting(1, 3 * 3600)] * 2, "span=recent"),
    "recent_swap": ([_drifting(1, 600), _drifting(2, 10, version="v2")], "span=recent"),
    "unmeasured_10_s": ([_unmeasured(1, 10)], ""),
    "unmeasured_3_h": ([_unmeasured(1, 3 * 3600)], ""),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's own functions make of all of the above, in one start of Chromium."""
    given = {
        "sizes": [*SIZES, MANY],
        "date": formatdate(NOW, usegmt=True),
        "undated": told(_drifting(1, 600, now=time.time())),
        "durations": [0.9996, 0.9994, 0.0009996, 0.5, 0.0123456, 12.345, 1234.5, None],
        "scenes": {k: ([told(t) for t in tallies], f"#{h}") for k, (tallies, h) in SCENES.items()},
    }
    folder = tmp_path_factory.mktemp("page")
    page = folder / "page.html"
    script = _HARNESS % json.dumps(given)
    page.write_text(f"{status_page.PAGE.read_text()}<script>{script}</script>")
    shown = seen(page.as_uri(), folder / "profile", polls=6)
    found = json.loads(text_of(shown.page, "found"))
    assert isinstance(found, dict)
    return found


def test_the_band_is_the_beta_binomial_of_scipy(found: dict[str, Any]) -> None:
    for (n, m), bars in zip(SIZES, found["bands"], strict=False):
        low, high = exact_band(n, m)
        assert [bar[0] for bar in bars] == low, (n, m)
        assert [bar[1] for bar in bars] == high, (n, m)
    a = 500
    assert exact_band(4999, 6218)[0][0] == betabinom.ppf(TAIL, 6218, a, 4500)
    assert exact_band(4999, 6218)[1][0] == betabinom.ppf(1 - TAIL, 6218, a, 4500)


def test_the_band_of_very_many_images_is_hardly_wider_and_never_narrower(
    found: dict[str, Any],
) -> None:
    low, high = exact_band(*MANY)
    for bar, at_least, at_most in zip(found["bands"][-1], low, high, strict=True):
        width = at_most - at_least
        assert at_least - 0.01 * width <= bar[0] <= at_least
        assert at_most <= bar[1] <= at_most + 0.01 * width


def test_all_ten_bars_lie_in_the_band_in_99_of_100_cases(found: dict[str, Any]) -> None:
    n, m = SIZES[1]
    low, high = np.array(found["bands"][1]).T
    rng, inside, runs = np.random.default_rng(0), 0, 4000
    for _ in range(runs):
        ranks = 1 + n - np.searchsorted(np.sort(rng.random(n)), rng.random(m))
        counts = np.bincount(np.ceil(10 * ranks / (n + 1) - 1e-9).astype(int) - 1, minlength=10)
        inside += bool(((counts >= low) & (counts <= high)).all())
    assert 0.985 < inside / runs < 0.9985


def test_durations_have_three_digits(found: dict[str, Any]) -> None:
    assert found["durations"] == [
        *("1.00 s", "999 ms", "1.00 ms", "500 ms", "12.3 ms", "12.3 s", "1,230 s", "–")
    ]


def test_another_version_begins_the_counts_anew(found: dict[str, Any]) -> None:
    recent, everything = found["scenes"]["version_recent"], found["scenes"]["version_all"]
    assert text_of(recent, "histogram-note").startswith("350 images")
    assert "Counted since version v2 took over, 0 s ago." in text_of(recent, "histogram-note")
    assert sum(numbers_of(recent, "data-count")) == 350
    assert text_of(everything, "version") == "digits v2"
    assert text_of(everything, "histogram-note").startswith("1,150 images")
    assert "more than one version" in text_of(everything, "histogram-note")
    assert "more than one version" in text_of(found["scenes"]["swapped_before"], "histogram-note")
    assert "version" not in text_of(found["scenes"]["enough"], "histogram-note")


def test_few_images_are_not_judged(found: dict[str, Any]) -> None:
    scenes = found["scenes"]
    assert "99 images: too few images to judge" in text_of(scenes["few"], "histogram-note")
    assert "no band" in text_of(scenes["no_reference"], "histogram-note")
    assert text_of(scenes["no_image"], "histogram-note") == "no image yet"
    for unjudged in ("few", "no_reference", "no_image"):
        assert "data-low" not in scenes[unjudged]
    assert "here none lies outside" in text_of(scenes["enough"], "histogram-note")
    assert len(numbers_of(scenes["enough"], "data-low")) == 10


def test_what_is_chosen_stands_in_the_address(found: dict[str, Any]) -> None:
    assert text_of(found["scenes"]["two_models"], "version") == "other w1"
    assert text_of(found["scenes"]["two_models"], "histogram-note").startswith("300 images")
    assert text_of(found["scenes"]["unknown_model"], "version") == "digits v1"
    address, note = found["chosen"]
    assert address == "#model=digits&span=recent"
    assert note.startswith("350 images")


def test_without_an_alarm_the_way_to_one_is_shown(found: dict[str, Any]) -> None:
    scenes = found["scenes"]
    assert text_of(scenes["no_alarm"], "drift") == "no alarm"
    assert text_of(scenes["no_alarm"], "drift-note") == f"{WAY} an alarm"
    assert numbers_of(scenes["no_alarm"], "aria-valuenow") == [pytest.approx(20.6, abs=0.1)]


@pytest.mark.parametrize(
    ("scene", "headline", "note"),
    [
        ("alarm_10_s", CHANGED, "1 alarm since the start, 10 s ago"),
        ("alarm_59_min", CHANGED, "2 alarms since the start, the last one 59 min ago"),
        ("alarm_61_min", "no alarm", "2 alarms since the start, the last one 61 min ago"),
        ("alarm_3_h", "no alarm", "2 alarms since the start, the last one 3 h ago"),
        ("alarm_to_come", CHANGED, "1 alarm since the start, 0 s ago"),
        ("recent", CHANGED, "2 alarms since this page was opened, the last one 10 s ago"),
        ("recent_one", CHANGED, "1 alarm since this page was opened, 10 s ago"),
        ("recent_none", CHANGED, "0 alarms since this page was opened, the last one 10 s ago"),
        ("recent_old", "no alarm", "0 alarms since this page was opened, the last one 3 h ago"),
        ("recent_swap", CHANGED, "0 alarms since version v2 took over, the last one 10 s ago"),
    ],
)
def test_the_images_have_changed_for_an_hour_after_an_alarm(
    scene: str, headline: str, note: str, found: dict[str, Any]
) -> None:
    assert text_of(found["scenes"][scene], "drift") == headline
    assert text_of(found["scenes"][scene], "drift-note") == f"{note}; {WAY} the next alarm"


def test_an_old_alarm_measures_nothing(found: dict[str, Any]) -> None:
    scenes = found["scenes"]
    assert text_of(scenes["unmeasured_10_s"], "drift") == CHANGED
    assert text_of(scenes["unmeasured_3_h"], "drift") == "not measured"
    assert text_of(scenes["unmeasured_3_h"], "drift-note") == "1 alarm since the start, 3 h ago"


def test_an_answer_without_a_date_is_read_by_the_clock_of_the_browser(
    found: dict[str, Any],
) -> None:
    note = text_of(found["undated"], "drift-note")
    assert text_of(found["undated"], "drift") == CHANGED
    assert re.match(r"1 alarm since the start, 1[01] min ago; ", note), note


def test_what_moved_most_is_listed_from_100_images_on(found: dict[str, Any]) -> None:
    scenes = found["scenes"]
    assert words_of(scenes["no_alarm"], "moved-list") == [
        *("score", "× 3.1 chance", "entropy", "× 2.0 chance", "x", "× 1.5 chance")
    ]
    assert text_of(scenes["no_alarm"], "moved-of") == "moved most in the last 1,000 images"
    assert text_of(scenes["small_window"], "moved-list") == ""
    assert re.search(r'id="moved" hidden', scenes["small_window"])
    assert not re.search(r'id="moved" hidden', scenes["no_alarm"])


def test_a_fault_of_the_page_is_not_one_of_the_service(found: dict[str, Any]) -> None:
    assert found["late"][0] == "no answer"
    assert found["late"][1].startswith("none within 5 s; what is shown was told ")
    assert found["failed"] == ["this page has failed", "drawn wrongly"]


def _quantile(seconds: np.ndarray[Any, Any], q: float) -> float:
    """Linear within the metric's bucket."""
    edges = np.array([0.0, *(metrics.REQUEST_SECONDS.bounds or ())])
    below = np.searchsorted(np.sort(seconds), edges, side="right")
    return float(np.interp(q * len(seconds), below, edges))


def test_the_page_draws_what_the_metrics_say(tmp_path: Path) -> None:
    """Two models, of which the first is shown; one protocol slow, one with a single request."""
    tally = Tally()
    served_model(tally, "digits", "0123456789ab", 215)
    images(tally, "digits", [*steps(300), *[0.04] * 100])
    tally.merge(model("w1", 300, name="other"))
    seconds = np.random.default_rng(0).lognormal(-3, 1, 300)
    requests(tally, "http", seconds, bad_image=7)
    requests(tally, "grpc", [45.0])
    tally.count(metrics.QUEUE_IMAGES, by=12)
    tally.count(metrics.SHED, by=1)
    with serving(tally) as url:
        shown = seen(url, tmp_path)
    page = shown.page
    assert shown.console == []
    assert text_of(page, "up") == "up"
    assert text_of(page, "fault") == ""
    assert text_of(page, "version") == "digits 0123456789ab"
    assert words_of(page, "model") == ["digits", "other"]
    assert words_of(page, "accept")[:2] == ["accept", "273"]
    assert words_of(page, "abstain") == ["abstain", "12", "(3.00%)"]
    assert words_of(page, "reject")[:2] == ["reject", "115"]
    median, last = (1000 * _quantile(seconds, q) for q in (0.5, 0.99))
    assert 1 < median < 100 < last < 1000
    assert words_of(page, "protocol-http") == [
        *("http", "307", "7", f"{median:.1f} ms", f"{last:.0f} ms")
    ]
    assert words_of(page, "protocol-grpc") == ["grpc", "1", "0", "≥ 30.0 s", "≥ 30.0 s"]
    assert text_of(page, "waiting") == "12 images waiting now; 1 request refused by overload"
    assert numbers_of(page, "data-count") == [130, *[30] * 9]
    low, high = exact_band(215, 400)
    assert numbers_of(page, "data-low") == low
    assert numbers_of(page, "data-high") == high
    note = text_of(page, "histogram-note")
    assert note.startswith("400 images, ranked among 215 reference images.")
    assert note.endswith("here 1 of 10 lies outside.")
    assert page.count("▲</text>") == 1
    assert text_of(page, "drift") == "not measured"


def _begun(count: int, errors: int, alarms: int, **seconds: list[float]) -> Tally:
    """A Monitor's counts."""
    tally = model(count=20)
    tally.merge(model("w1", 0, name="other"))
    images(tally, "other", steps(count))
    drift(tally, "other", 1.0, 50, {})
    alarmed(tally, "other", alarms, NOW - 40 * 60)
    requests(tally, "http", seconds.get("http", [0.02]), bad_image=errors)
    if "grpc" in seconds:
        requests(tally, "grpc", seconds["grpc"])
    return tally


def test_counts_since_the_page_was_opened_survive_a_restart_of_the_monitor(tmp_path: Path) -> None:
    """After it some counts are smaller than before and some are not: all have begun at zero."""
    restarted = _begun(0, errors=9, alarms=1, http=[3.0] * 4, grpc=[0.003] * 10)
    images(restarted, "other", [0.0004] * 120)
    later = _begun(0, errors=9, alarms=1, http=[3.0] * 6, grpc=[0.003] * 10)
    images(later, "other", [0.0004] * 120 + [0.75] * 41)
    answers = [
        _begun(300, errors=7, alarms=2, http=[0.02] * 8),
        _begun(450, errors=8, alarms=3, http=[0.02] * 9),
        restarted,
        later,
    ]
    with serving(*answers, clock=NOW) as url:
        shown = seen(f"{url}#model=other&span=recent", tmp_path, polls=len(answers))
    page = shown.page
    assert shown.console == []
    assert text_of(page, "version") == "other w1"
    grown = np.diff([np.histogram(steps(k), np.linspace(0, 1, 11))[0] for k in (300, 450)], axis=0)
    expected = grown[0] + [120, *[0] * 6, 41, 0, 0]
    assert numbers_of(page, "data-count") == list(expected)
    assert text_of(page, "histogram-note").startswith("311 images")
    assert words_of(page, "protocol-http")[:3] == ["http", str(1 + 4 + 2 + 1 + 9), "10"]
    assert words_of(page, "protocol-grpc")[:3] == ["grpc", "10", "0"]
    # 6 of 7 good ones took 3 s, in the bucket from 2.5 to 5 s
    assert words_of(page, "protocol-http")[3] == f"{2.5 + 2.5 * (3.5 - 1) / 6:.2f} s"
    assert text_of(page, "drift") == CHANGED
    note = text_of(page, "drift-note")
    assert note.startswith("2 alarms since this page was opened, the last one 40 min ago; ")


@pytest.mark.parametrize(
    ("answer", "state", "fault", "logged"),
    [
        (None, "no answer", "it says 503", 0),
        ("<html>log in first</html>", "this page has failed", "no metric: <html>log in first", 1),
    ],
    ids=["unreachable", "no_metrics"],
)
def test_the_page_says_what_is_wrong(
    answer: str | None, state: str, fault: str, logged: int, tmp_path: Path
) -> None:
    with serving(drift_in_sight(), answer) as url:
        shown = seen(url, tmp_path)
    assert text_of(shown.page, "up") == state
    assert fault in text_of(shown.page, "fault")
    assert text_of(shown.page, "version") == "fashion-mnist 4ac1e1a99b92"
    assert len(shown.console) == logged


def test_the_picture_for_the_readme_is_small(tmp_path: Path) -> None:
    with serving(drift_in_sight()) as url:
        picture(url, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        width, height = image.size
    assert width == 1000
    assert 400 < height < 800
    assert (tmp_path / "page.png").stat().st_size < 120_000
