"""The OpenAPI document and the page that is drawn from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from fastapi.routing import APIRoute

from service import try_page
from service.admin import Admin
from service.http_api import Doors
from tests.service.faces import oip
from tests.service.faces.asking import client, over_http
from tests.service.faces.fakes import Bench, bench, keys, no_keys, png

VERBS = {"get", "post", "delete"}


def served() -> Bench:
    """With all routes, the administrator's too."""
    admin = Admin(None, keys("0123456789abcdef-adm"))
    return bench(doors=Doors(keys=no_keys(), admin=admin))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = over_http(lambda c: c.get("/openapi.json"), served()).json()
    return found


@pytest.fixture(scope="module")
def page() -> str:
    response = over_http(lambda c: c.get("/docs"), served())
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return response.text


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        assert set(verbs) <= VERBS
        for verb, operation in verbs.items():
            yield path, verb, operation


def everywhere(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from everywhere(entry)


def test_its_structure_is_that_of_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    ids = []
    for path, _, operation in operations(document):
        assert path.startswith("/")
        assert operation["summary"]
        assert operation["tags"]
        ids.append(operation["operationId"])
        named = [(p["in"], p["name"]) for p in operation.get("parameters", ())]
        assert len(set(named)) == len(named)
        for parameter in operation.get("parameters", ()):
            assert parameter["in"] in ("path", "query", "header")
            assert "schema" in parameter
        braces = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert {name for place, name in named if place == "path"} == braces
        assert all(p.get("required") for p in operation.get("parameters", ()) if p["in"] == "path")
        for response in operation["responses"].values():
            assert response["description"]
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]
    assert len(set(ids)) == len(ids)


def test_all_references_resolve(document: dict[str, Any]) -> None:
    for place in everywhere(document):
        if "$ref" in place:
            found: Any = document
            assert place["$ref"].startswith("#/")
            for part in place["$ref"][2:].split("/"):
                found = found[part]
            assert isinstance(found, dict)


def test_all_schemas_are_schemas(document: dict[str, Any]) -> None:
    schemas = [place["schema"] for place in everywhere(document) if "schema" in place]
    schemas += document["components"]["schemas"].values()
    assert len(schemas) > 20
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_route_is_documented_or_answers_that_it_is_not_offered(
    document: dict[str, Any],
) -> None:
    documented = {(path, verb) for path, verb, _ in operations(document)}
    routes = _routes(served().app().routes)
    offered = {
        (r.path, verb.lower()) for r in routes for verb in r.methods or () if r.include_in_schema
    }
    assert documented == offered
    hidden = {route.path for route in routes if not route.include_in_schema}
    hidden -= {"/", "/docs", *try_page.FILES}
    assert all(path.startswith("/v2/") for path in hidden)


def _routes(routes: Any) -> list[APIRoute]:
    return [route for route in routes if isinstance(route, APIRoute)]


def test_openapi_describes_request_answer_and_errors(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/classify"]["post"]
    assert {p["name"] for p in operation["parameters"]} == {"alpha", "id", "top_k", "model"}
    assert "multipart/form-data" in operation["requestBody"]["content"]
    for path in ("/v1/classify", "/v2/models/{model}/infer"):
        statuses = set(document["paths"][path]["post"]["responses"])
        assert {"200", "400", "401", "404", "408", "413", "429", "500", "503", "504"} <= statuses
    assert "409" in document["paths"]["/admin/deploy"]["post"]["responses"]
    assert "class" in document["components"]["schemas"]["ClassifyResponse"]["properties"]


def test_requests_and_answers_are_what_the_document_says(document: dict[str, Any]) -> None:
    def check(value: Any, schema: dict[str, Any]) -> None:
        whole = {**schema, "components": document["components"]}
        jsonschema.validate(value, whole, cls=jsonschema.Draft202012Validator)

    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    infer = operation["requestBody"]["content"]["application/json"]["schema"]
    for body in (oip.image_json([png(5)], id="a"), oip.image_json([png()], outputs=[])):
        check(json.loads(body.content), infer)
    with pytest.raises(jsonschema.ValidationError):
        check({"inputs": []}, infer)
    answer = over_http(lambda c: c.post("/v1/classify", content=png(5)))
    refusal = over_http(lambda c: c.post("/v1/classify", content=b"x"))
    responses = document["paths"]["/v1/classify"]["post"]["responses"]
    check(answer.json(), responses["200"]["content"]["application/json"]["schema"])
    check(refusal.json(), responses["400"]["content"]["application/json"]["schema"])


def test_docs_need_no_other_server(page: str) -> None:
    assert "/v1/classify" in page
    assert "p_value" in page
    for foreign in ("http://", "https://", "<script", "//cdn"):
        assert foreign not in page


def test_the_page_shows_every_operation_and_parameter(page: str, document: dict[str, Any]) -> None:
    for path, verb, operation in operations(document):
        assert f"<h2><code>{verb.upper()} {path}</code></h2>" in page
        for parameter in operation.get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in page
    for path in ("/v2/models/{model}/infer", "/v2/repository/index", "/admin/deploy"):
        assert path in page
    for name in document["components"]["schemas"]:
        assert f"<h2><code>{name}</code></h2>" in page


def test_without_an_administrator_there_are_no_such_routes() -> None:
    async def run() -> None:
        async with client(bench().app()) as asking:
            assert "/admin" not in (await asking.get("/openapi.json")).text
            assert (await asking.get("/admin/models")).status_code == 404

    asyncio.run(run())
