"""The page at ``/docs``: the OpenAPI document as plain HTML.

Drawn here instead of by Swagger UI, which would load its code from another server: the page works
where there is no way out, and runs no script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}}
code,pre{{font-family:ui-monospace,monospace;font-size:.9em}} pre{{overflow-x:auto}}
pre,td,th{{border:1px solid #8884;padding:.3rem .6rem;text-align:left;vertical-align:top}}
table{{border-collapse:collapse;width:100%}} h2{{margin-top:2.5rem}}
</style></head><body><h1>{title}</h1><p>{summary}</p><p>{description}</p>
<p>Machine-readable: <a href="openapi.json">openapi.json</a></p>{body}</body></html>"""


def docs_page(document: Mapping[str, Any]) -> str:
    """OpenAPI document to a self-contained page: operations first, then every schema."""
    info = document["info"]
    return _PAGE.format(
        title=escape(info["title"]),
        summary=escape(info.get("summary", "")),
        description=_text(info.get("description", "")),
        body="".join([*_operations(document), *_schemas(document)]),
    )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield f"<h2><code>{verb.upper()} {escape(path)}</code></h2>"
            yield f"<p><b>{escape(operation.get('summary', ''))}</b></p>"
            yield f"<p>{_text(operation.get('description', ''))}</p>"
            rows = [
                (p["name"], _kind(p["schema"]), p.get("description", ""))
                for p in operation.get("parameters", ())
            ]
            yield _table(("parameter", "type", "meaning"), rows)
            if body := operation.get("requestBody"):
                kinds = ", ".join(body["content"])
                yield f"<p>Body ({escape(kinds)}): {_text(body.get('description', ''))}</p>"
            yield _table(("status", "meaning", "schema"), _responses(operation))


def _responses(operation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        kinds = ", ".join(_kind(media.get("schema", {})) for media in content.values())
        rows.append((status, response.get("description", ""), kinds))
    return rows


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        yield f"<h2><code>{escape(name)}</code></h2><p>{_text(schema.get('description', ''))}</p>"
        rows = [
            (field, _kind(value), value.get("description", ""))
            for field, value in schema.get("properties", {}).items()
        ]
        yield _table(("field", "type", "meaning"), rows)


def _kind(schema: Mapping[str, Any]) -> str:
    """One schema in a few words: a name, a list of it, alternatives, or its type."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("type", "any"))


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join(
        f"<tr><td><code>{escape(a)}</code></td><td>{_text(b)}</td><td>{_text(c)}</td></tr>"
        for a, b, c in rows
    )
    return f"<table><tr>{titles}</tr>{body}</table>"


def _text(markdown: str) -> str:
    """Escaped text; `code` in backticks is kept as code."""
    parts = escape(markdown.strip()).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
