"""``/admin`` over HTTP: who may, what a wish has to look like, and what comes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from ray.exceptions import RayTaskError

from service.admin import Admin
from service.catalog import find_bundle
from service.errors import DeployError
from service.http_api import Doors
from service.keys import Keys
from service.rollout import Outcome, Plan, Target
from tests.service.faces.asking import client, over_http, refused
from tests.service.faces.fakes import Bench, bench, keys, no_keys

API, ADMIN = "0123456789abcdef-api", "0123456789abcdef-adm"
TARGET = Target("fake", "0123456789ab", "/bundles/fake")


class _Method:
    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.asked: list[tuple[Any, ...]] = []

    async def remote(self, *arguments: Any) -> Any:
        self.asked.append(arguments)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Central:
    """The holder of the plan, as its handle looks."""

    def __init__(self, error: Exception | None = None) -> None:
        plan = Plan(number=3, serving=(TARGET,), shadows=((TARGET, 0.5),))
        decided = {
            ("fake", "0123456789ab", "accept", "reject", "true"): 4,
            ("fake", "another", "accept", "reject", "true"): 9,
        }
        outcome = Outcome(
            name="fake", version="new", previous="old", replicas=2, behind=0, seconds=1.23456
        )
        self.deploy = _Method(error or outcome)
        self.end_shadow = _Method(error)
        self.state = _Method(error or (plan, 2, decided))


def served(central: Central, admin_keys: Keys | None = None, api_keys: Keys | None = None) -> Bench:
    admin = Admin(central, admin_keys or keys(ADMIN))
    return bench(doors=Doors(keys=api_keys or keys(API), admin=admin))


CALLS = [("GET", "/admin/models"), ("POST", "/admin/deploy"), ("DELETE", "/admin/shadows/fake")]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_an_admin_key_is_needed(method: str, path: str) -> None:
    async def run() -> None:
        central = Central()
        async with client(served(central).app()) as asking:

            async def ask(**headers: str) -> tuple[int, str]:
                return refused(await asking.request(method, path, headers=headers))

            assert await ask() == (401, "unauthenticated")
            assert await ask(authorization=f"Basic {ADMIN}") == (401, "unauthenticated")
            assert await ask(authorization=f"Bearer {API}") == (403, "forbidden")
            assert await ask(authorization=f"Bearer {ADMIN}x") == (403, "forbidden")
        assert not central.deploy.asked
        assert not central.state.asked
        assert not central.end_shadow.asked

    asyncio.run(run())


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_where_no_admin_key_is_configured_nobody_has_one(method: str, path: str) -> None:
    at = served(Central(), admin_keys=no_keys(), api_keys=no_keys())
    response = over_http(lambda c: c.request(method, path, headers={"x-api-key": API}), at)
    assert refused(response) == (403, "forbidden")


def test_an_admin_key_is_no_key_for_inference() -> None:
    response = over_http(lambda c: c.get("/v2", headers={"x-api-key": ADMIN}), served(Central()))
    assert refused(response) == (401, "unauthenticated")


def asked(
    method: str, path: str, central: Central | None = None, content: bytes = b""
) -> httpx.Response:
    return over_http(
        lambda c: c.request(method, path, content=content, headers={"x-api-key": ADMIN}),
        served(central or Central()),
    )


def test_the_state_names_models_and_what_shadows_decide() -> None:
    described = {"name": "fake", "version": "0123456789ab", "path": "/bundles/fake"}
    decisions = [{"live": "accept", "shadow": "reject", "same_class": True, "images": 4}]
    assert asked("GET", "/admin/models").json() == {
        "replicas": 2,
        "models": [described],
        "staged": None,
        "shadows": [{**described, "share": 0.5, "images": 4, "decisions": decisions}],
    }


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize("shadow", [False, True])
def test_a_bundle_is_deployed_by_name_or_path(by_path: bool, shadow: bool) -> None:
    central, path = Central(), find_bundle("fashion-mnist").resolve()
    bundle = path if by_path else "fashion-mnist"
    wish = f'{{"bundle": "{bundle}", "shadow": {str(shadow).lower()}, "share": 0.25}}'
    found = asked("POST", "/admin/deploy", central, wish.encode()).json()
    assert found == {
        "model": {"name": "fake", "version": "new"},
        "previous": "old",
        "shadow": shadow,
        "replicas": 2,
        "behind": 0,
        "seconds": 1.235,
    }
    ((target, share),) = central.deploy.asked
    assert (target.name, target.path) == ("fashion-mnist", str(path))
    assert share == (0.25 if shadow else None)


def test_a_shadow_is_ended_by_name() -> None:
    central = Central()
    assert asked("DELETE", "/admin/shadows/a%20b", central).json()["replicas"] == 2
    assert central.end_shadow.asked == [("a b",)]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"\xff", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b"{}", 400, "bad_request"),
        (b'{"bundle": 1}', 400, "bad_request"),
        (b'{"bundle": ""}', 400, "bad_request"),
        (b'{"bundle": "\\ud800"}', 400, "bad_request"),
        (b'{"bundle": "a", "shade": true}', 400, "bad_request"),
        (b'{"bundle": "a", "' + b"x" * 10_000 + b'": 1}', 400, "bad_request"),
        (b'{"bundle": "a", "share": 0}', 400, "bad_parameter"),
        (b'{"bundle": "a", "share": 1.5}', 400, "bad_parameter"),
        (b'{"bundle": "a", "share": NaN}', 400, "bad_parameter"),
        (b'{"bundle": "no such bundle"}', 409, "deploy_refused"),
        (b'{"bundle": "a\\u0000b"}', 409, "deploy_refused"),
        (b'{"bundle": "' + b"x" * 5000 + b'"}', 409, "deploy_refused"),
        (b'{"bundle": "/"}', 409, "deploy_refused"),
        (bytes(70_000), 413, "body_too_large"),
    ],
)
def test_a_bad_wish_is_refused_before_anything_is_loaded(
    content: bytes, status: int, code: str
) -> None:
    central = Central()
    response = asked("POST", "/admin/deploy", central, content)
    assert refused(response) == (status, code)
    if status != 409:
        assert len(response.text) < 400
    assert not central.deploy.asked


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DeployError("the bundle is broken: mend it"), 409, "deploy_refused"),
        (RayTaskError("deploy", "a traceback", DeployError("broken")), 409, "deploy_refused"),
        (RayTaskError("deploy", "a traceback", KeyError("10.0.0.7")), 500, "internal"),
        (ConnectionError("10.0.0.7 refused"), 503, "not_ready"),
    ],
)
def test_what_the_holder_of_the_plan_says_is_passed_on(
    error: Exception, status: int, code: str
) -> None:
    wish = b'{"bundle": "fashion-mnist"}'
    for method, path in CALLS:
        response = asked(method, path, Central(error), wish)
        assert refused(response) == (status, code)
        assert "10.0.0.7" not in response.text
        assert "traceback" not in response.text
