"""Scenes for the status page, and a Chromium that looks at them.

``python -m tests.integration.status_scenes OUT.png [CHROMIUM'S FLAGS]`` takes the picture of the
README; ``--blink-settings=preferredColorScheme=0`` makes it dark.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service import metrics
from service.exposition import exposition
from service.http_api import create_app
from service.keys import Keys
from service.tally import Tally, count_verdict
from service.verdict import Decision
from tests.integration.loopback import listening
from tests.service.faces.fakes import VERDICT, bench

#: Seconds between two questions of the page.
EVERY_S = 2
BROWSER = shutil.which("chromium")

#: What ``/metrics`` answers: counts, a text as it is, or (None) that they cannot be had.
Answer = Tally | str | None


@dataclass(frozen=True)
class Seen:
    """The page as Chromium has it after a while, and what its console says."""

    page: str
    console: list[str]


def images(tally: Tally, model: str, p_values: Iterable[float], *, unsure: int = 25) -> None:
    """Verdicts at a threshold of .05; every ``unsure``-th that is typical is ambiguous."""
    for i, p in enumerate(p_values):
        decision, reason = Decision.ACCEPT, None
        if p <= 0.05:
            decision, reason = Decision.REJECT, "atypical_input"
        elif i % unsure == unsure - 1:
            decision, reason = Decision.ABSTAIN, "ambiguous"
        count_verdict(tally, model, replace(VERDICT, p_value=p, decision=decision, reason=reason))


def served_model(tally: Tally, model: str, version: str, reference: int) -> None:
    """What a replica says of a model."""
    tally.count(metrics.MODEL_INFO, model, version)
    tally.count(metrics.REFERENCE_IMAGES, model, by=reference)


def drift(
    tally: Tally, model: str, score: float, window: int, effects: Mapping[str, float]
) -> None:
    """What the Monitor says of its test and its window; distances fit 5000 reference images."""
    tally.count(metrics.DRIFT_SCORE, model, by=score)
    tally.count(metrics.DRIFT_THRESHOLD, model, by=float(np.log(30 * 86_400 * 100)))
    tally.count(metrics.DRIFT_ALARMS, model, by=0)
    tally.count(metrics.WINDOW_IMAGES, model, by=window)
    chance = 0.8687 * np.sqrt(1 / 5000 + 1 / window)
    for statistic, effect in effects.items():
        tally.count(metrics.WINDOW_EFFECT, model, statistic, by=effect)
        tally.count(metrics.WINDOW_DISTANCE, model, statistic, by=float(min(1, effect * chance)))


def alarmed(tally: Tally, model: str, count: int, last: float) -> None:
    """What the Monitor says of so many alarms, the last one then (seconds since 1970)."""
    tally.count(metrics.DRIFT_ALARMS, model, by=count)
    tally.count(metrics.DRIFT_LAST_ALARM, model, by=last)


def requests(tally: Tally, protocol: str, seconds: Iterable[float], **failed: int) -> None:
    """Good requests by their duration, and failed ones by their code."""
    for s in seconds:
        tally.count(metrics.REQUESTS, protocol, "ok")
        tally.observe(metrics.REQUEST_SECONDS, s, protocol)
    for code, count in failed.items():
        tally.count(metrics.REQUESTS, protocol, code, by=count)


def drift_in_sight() -> Tally:
    """Some thousand images for fashion-mnist, of late a little stranger than they should be."""
    rng, tally = np.random.default_rng(7), Tally()
    served_model(tally, "fashion-mnist", "4ac1e1a99b92", 5000)
    images(tally, "fashion-mnist", rng.random(6218) ** 1.12)
    drift(
        tally,
        "fashion-mnist",
        13.6,
        1000,
        {"score": 3.1, "band_4": 2.6, "ladj_2": 1.9, "log_prob": 1.7, "predicted_class": 0.9},
    )
    requests(tally, "http", rng.lognormal(-4.6, 0.5, 5012), bad_image=13, too_large=2)
    requests(tally, "grpc", rng.lognormal(-4.9, 0.4, 1206))
    tally.count(metrics.QUEUE_IMAGES, by=3)
    tally.count(metrics.SHED, by=0)
    return tally


@contextmanager
def serving(*answers: Answer, clock: float | None = None) -> Iterator[str]:
    """The application, locked, whose ``/metrics`` gives one answer after the other.

    ``clock``: the time that all of its answers bear, in seconds since 1970; None: the time it is.
    """
    texts = [a if isinstance(a, str | None) else exposition(a, "")[0].decode() for a in answers]
    asked = iter(texts[:-1])

    async def told(accept: str) -> tuple[bytes, str]:
        text = next(asked, texts[-1])
        if text is None:
            raise ConnectionError
        return text.encode(), "text/plain; version=0.0.4; charset=utf-8"

    at = bench()
    app = create_app(at.engine, replace(at.doors, keys=_locked()), told, at.statistics)
    dated: dict[str, Any] = {}
    if clock is not None:
        dated = {"date_header": False, "headers": [("Date", formatdate(clock, usegmt=True))]}
    with listening(app, **dated) as address:
        yield f"{address}/"


def _locked() -> Keys:
    """Whoever looks at the page has no key."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OODGATE_KEYS_OF_A_TEST", "a-key-of-this-test")
        return Keys(None, "OODGATE_KEYS_OF_A_TEST")


def seen(url: str, folder: Path, *, polls: int = 2) -> Seen:
    """The page a second after so many questions, on its own clock: it waits for each answer."""
    done = _chromium(url, folder, EVERY_S * (polls - 1) + 1, "--dump-dom")
    return Seen(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def picture(url: str, out: Path, *flags: str, width: int = 1000) -> None:
    """A PNG of the page without what is empty below it."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        size = f"--window-size={width},1800"
        _chromium(url, Path(folder, "profile"), 3, f"--screenshot={shot}", size, *flags)
        with Image.open(shot) as image:
            pixels = np.asarray(image.convert("RGB"))
    used = np.flatnonzero((pixels != pixels[-1, -1]).any(axis=(1, 2)))
    cropped = Image.fromarray(pixels[: used[-1] + 17])
    cropped.quantize(128, dither=Image.Dither.NONE).save(out, optimize=True)


def _chromium(
    url: str, folder: Path, seconds: float, *flags: str
) -> subprocess.CompletedProcess[str]:
    if BROWSER is None:
        pytest.skip("no chromium: apt-get install chromium")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    command += ["--enable-logging=stderr", "--v=0", "--hide-scrollbars"]
    command += [f"--virtual-time-budget={1000 * seconds:.0f}", *flags, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done


if __name__ == "__main__":
    with serving(drift_in_sight()) as address:
        picture(address, Path(sys.argv[1]), *sys.argv[2:])
