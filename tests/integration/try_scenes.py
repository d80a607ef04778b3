"""A real small service and a Chromium that tries images on its page.

``python -m tests.integration.try_scenes OUT.png [dark]`` takes the picture of the README: the
answer to an image that the shipped model of fashion-mnist has drawn and knows.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from service.engine import Engine
from service.http_api import Doors, create_app
from service.recorder import Recorder
from service.served import Models, load
from service.tally import Tally
from tests.integration.loopback import listening
from tests.service.faces.fakes import LIMITS, keys, no_keys
from tests.service.fakes import runtime

ROOT = Path(__file__).resolve().parents[2]
#: What a browser itself logs of an answer that is not 2xx.
NETWORK = "Failed to load resource"
#: Seconds within which a busy machine answers.
DEADLINE_MS = 60_000
MAX_BYTES = 200_000
DESKTOP, PHONE = (1000, 900), (360, 740)


def application(bundle: Path, *key: str, max_waiting: int = 4) -> FastAPI:
    """What serves the bundle, to everybody or to those who have the key."""
    limits = replace(
        LIMITS, max_body_bytes=MAX_BYTES, max_pixels=4_000_000, max_waiting=max_waiting
    )
    recorder = Recorder(Tally())
    served = load(bundle, runtime(), _no_note, watch=False)
    engine = Engine(models=Models([served]), limits=limits, recorder=recorder)
    return create_app(engine, Doors(keys=keys(*key) if key else no_keys()), _nothing, _no_values)


def _no_note(images: int, seconds: float, gate_s: float) -> None:
    """Of a batch."""


async def _nothing(accept: str) -> tuple[bytes, str]:
    return b"", "text/plain"


async def _no_values() -> dict[tuple[str, ...], int]:
    return {}


@contextmanager
def live(app: FastAPI) -> Iterator[str]:
    """The address of the page, while the application listens on loopback."""
    with listening(app) as address:
        yield f"{address}/try"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's own, without a head."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Tried:
    """The page in a tab of its own, and whatever it complains of."""

    def __init__(
        self, browser: Browser, url: str, size: Sequence[int] = DESKTOP, dark: bool = False
    ) -> None:
        scheme: Literal["dark", "light"] = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(DEADLINE_MS)
        self.complaints: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(NETWORK):
            self.complaints.append(message.text)

    def sampled(self) -> None:
        """Wait until the model's own drawings are there, and strangers of their size."""
        self.page.wait_for_selector("#more:not([hidden])")

    def upload(self, name: str, content: bytes, kind: str = "image/png") -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})

    def press(self, group: str, label: str) -> None:
        """A tile of ``samples`` or ``strangers``; the first that has this label."""
        tiles = self.page.locator(f"#{group}")
        tiles.get_by_role("button", name=label, exact=True).first.click()

    def answered(self) -> str:
        """Wait for the verdict; its decision."""
        self.page.wait_for_selector("#decision[data-decision]")
        return self.text("decision")

    def text(self, element: str) -> str:
        return self.page.locator(f"#{element}").inner_text()

    def numbers(self, selector: str, attribute: str) -> list[float]:
        found = self.page.locator(selector).evaluate_all(
            "(all, name) => all.map(e => Number(e.getAttribute(name)))", attribute
        )
        return [float(number) for number in found]

    def wide(self) -> int:
        """Pixels that the page is wider than its window."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


def picture(browser: Browser, url: str, label: str, out: Path, dark: bool = False) -> None:
    """A PNG of the whole page with its answer to the sample of that class."""
    tried = Tried(browser, url, DESKTOP, dark)
    tried.sampled()
    tried.press("samples", label)
    tried.answered()
    tried.page.screenshot(path=out, full_page=True)
    tried.context.close()
    with Image.open(out) as shot:
        shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    shipped = application(ROOT / "bundles" / "fashion-mnist-4ac1e1")
    with live(shipped) as address, chromium() as found:
        picture(found, address, "Shirt", Path(sys.argv[1]), dark="dark" in sys.argv[2:])
