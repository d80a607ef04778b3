"""``/admin``: what is served, and exchanging it; each call needs an admin key."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.admin import Admin
from service.errors import BadRequestError
from service.http_body import ENVELOPE_BYTES, body_of
from service.http_errors import responses
from service.http_guard import key_in


class DeployRequest(BaseModel):
    """Which bundle, and whether it answers or only sees what others answer."""

    model_config = ConfigDict(extra="forbid")

    bundle: Annotated[str, Field(min_length=1, description="path or name, as each node knows it")]
    shadow: Annotated[bool, Field(description="see images without answering")] = False
    share: Annotated[float, Field(description="of the requests a shadow sees, in (0, 1]")] = 1.0


def add_admin(app: FastAPI, admin: Admin) -> None:
    """Routes of ``oodgate deploy``."""
    errors = responses("deploy_refused")

    @app.get("/admin/models", summary="What is served", responses=errors, tags=["administration"])
    async def models(request: Request) -> dict[str, object]:
        admin.check(key_in(request.scope))
        return await admin.state()

    @app.post(
        "/admin/deploy",
        summary="Serve another version of a model",
        description="Loads, warms and tests the bundle beside the old one on every replica, then "
        "swaps on all. A bundle that is refused changes nothing.",
        responses=errors,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": DeployRequest.model_json_schema()}},
            }
        },
        tags=["administration"],
    )
    async def deploy(request: Request) -> dict[str, object]:
        admin.check(key_in(request.scope))
        wish = _wish(await body_of(request, ENVELOPE_BYTES, ENVELOPE_BYTES))
        return await admin.deploy(wish.bundle, wish.shadow, wish.share)

    @app.delete(
        "/admin/shadows/{name}",
        summary="End a shadow",
        responses=errors,
        tags=["administration"],
    )
    async def end_shadow(name: str, request: Request) -> dict[str, object]:
        admin.check(key_in(request.scope))
        return await admin.end_shadow(name)


def _wish(body: bytes) -> DeployRequest:
    try:
        return DeployRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:100] or "the body"
        raise BadRequestError(
            f"{place}: {first['msg']}; expected a DeployRequest, see /docs"
        ) from error
