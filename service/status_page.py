"""The page at ``/``: what an operator asks first, drawn in the browser from ``/metrics``.

It needs nothing but this service: no script or style comes from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

#: The page may run its own script and ask its own service, and nothing else. Its icon, an empty
#: ``data:``, spares the service the question for /favicon.ico.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)

#: HTML, style and script in one file.
PAGE = Path(__file__).with_name("status.html")


def add_status_page(app: FastAPI) -> None:
    """The route ``/``."""
    text = PAGE.read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def status() -> HTMLResponse:
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})
