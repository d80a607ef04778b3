"""The page at ``/`` in a real Chromium, which draws what it reads from ``/metrics``."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn

from service import metrics
from service.http_api import create_app
from service.keys import Keys
from service.monitor import Monitor
from service.startup import free_ports
from service.tally import Tally, count_verdict
from tests.service.faces.fakes import bench, verdict_of

pytestmark = pytest.mark.integration

BROWSER = shutil.which("chromium")
#: Milliseconds of the page's own time: two rounds of questions.
BUDGET = 3_000


def _told() -> Tally:
    """300 images, p-values in equal steps, of two models' decisions; some requests failed."""
    tally = Tally()
    tally.count(metrics.MODEL_INFO, "digits", "0123456789ab")
    tally.count(metrics.REFERENCE_IMAGES, "digits", by=215)
    for i in range(300):
        verdict = replace(verdict_of(5 + i % 2), p_value=(i + 0.5) / 300)
        count_verdict(tally, "digits", verdict)
        tally.count(metrics.REQUESTS, "http", "ok")
        tally.observe(metrics.REQUEST_SECONDS, 0.02, "http")
    for _ in range(100):
        count_verdict(tally, "digits", verdict_of(0))
    tally.count(metrics.REQUESTS, "http", "bad_image", by=7)
    tally.count(metrics.QUEUE_IMAGES, by=12)
    tally.count(metrics.SHED, by=4)
    return tally


@contextmanager
def _served(tally: Tally, *, reachable: bool = True) -> Iterator[str]:
    """The application, with a Monitor that holds the tally."""
    at, monitor = bench(), Monitor()
    asyncio.run(monitor.record("replica", 1, tally))

    async def exposition(accept: str) -> tuple[bytes, str]:
        if not reachable:
            raise ConnectionError
        return await monitor.exposition(accept)

    doors = replace(at.doors, keys=_locked())
    app = create_app(at.engine, doors, exposition, at.statistics)
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()


def _locked() -> Keys:
    """Whoever looks at the page has no key."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OODGATE_KEYS_OF_A_TEST", "a-key-of-this-test")
        return Keys(None, "OODGATE_KEYS_OF_A_TEST")


def _seen(url: str, folder: Path) -> str:
    """The page as Chromium has it after a while."""
    if BROWSER is None:
        pytest.skip("no chromium: apt-get install chromium")
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder}",
            f"--virtual-time-budget={BUDGET}",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _text(page: str, element: str) -> str:
    """What stands in the element of that id, without its tags."""
    found = re.search(rf'<(\w+)[^>]*\bid="{element}"[^>]*>(.*?)</\1>', page, re.S)
    assert found, element
    return re.sub(r"<[^>]+>", " ", found[2]).strip()


def test_the_page_draws_what_the_metrics_say(tmp_path: Path) -> None:
    with _served(_told()) as url:
        page = _seen(url, tmp_path)
    assert _text(page, "up") == "up"
    assert _text(page, "version") == "digits 0123456789ab"
    assert re.split(r"\s{2,}", _text(page, "accept")) == ["accept", "300", "(75.0%)"]
    assert re.split(r"\s{2,}", _text(page, "reject")) == ["reject", "100", "(25.0%)"]
    assert _text(page, "protocol-http").split()[:3] == ["http", "307", "7"]
    assert "12 images wait now; 4 requests refused by overload" in _text(page, "waiting")
    assert _text(page, "drift") == "not measured"
    shares = [float(share) for share in re.findall(r'data-share="([\d.]+)"', page)]
    assert shares == pytest.approx([(30 + 100) / 400, *[30 / 400] * 9])
    assert _text(page, "histogram-note").startswith("400 images;")


def test_the_page_says_when_the_metrics_cannot_be_had(tmp_path: Path) -> None:
    with _served(Tally(), reachable=False) as url:
        page = _seen(url, tmp_path)
    assert _text(page, "up") == "no answer"
