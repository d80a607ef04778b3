"""The page at ``/try``: one image, its verdict and why, drawn in the browser from ``/v1/explain``.

Like the page at ``/`` it needs nothing but this service. Its style and its modules lie beside it
and are told as they are; no path of a request reaches the disk.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response

#: Scripts and styles are this service's own files, none is inline; images are those that the
#: service or the page itself has made. A form is for the page alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)

#: What the page is made of.
FOLDER = Path(__file__).with_name("try")

_HTML = "page.html"
_PARTS = {
    **dict.fromkeys(("asking", "charts", "dom", "drawings", "main", "result", "words"), "js"),
    "style": "css",
}
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

#: Each path of the page, and the file that it is answered with; open to those without a key, since
#: the page is where one is given.
FILES = {"/try": _HTML} | {f"/try/{name}.{kind}": f"{name}.{kind}" for name, kind in _PARTS.items()}


def add_try_page(app: FastAPI) -> None:
    """The route ``/try`` and those of its parts."""
    for path, name in FILES.items():
        _add_file(app, path, FOLDER / name)


def _add_file(app: FastAPI, path: str, file: Path) -> None:
    content, kind = file.read_bytes(), _KINDS[file.suffix.removeprefix(".")]
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if kind == _KINDS["html"]:
        headers["Content-Security-Policy"] = POLICY

    @app.get(path, include_in_schema=False)
    async def told() -> Response:
        return Response(content, headers=headers, media_type=kind)
