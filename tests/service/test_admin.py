"""Wishes to change what is served: who may have one, and how the holder's answers are worded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.admin import Admin, target_of
from service.bundle import Bundle
from service.errors import (
    BadParameterError,
    DeployError,
    ForbiddenError,
    NotReadyError,
    UnauthenticatedError,
)
from service.keys import Keys
from service.rollout import Outcome, Plan, Target

KEY, VARIABLE = "0123456789abcdef", "OODGATE_KEYS_OF_THIS_TEST"


class Central:
    """The holder of the plan as its handle looks; answers or raises ``outcome``."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, method: str) -> Any:
        central = self

        class Method:
            async def remote(self, *arguments: Any) -> Any:
                central.asked.append((method, *arguments))
                if isinstance(central.outcome, Exception):
                    raise central.outcome
                return central.outcome

        return Method()


def admin(outcome: Any = None) -> tuple[Admin, Central]:
    central = Central(outcome)
    return Admin(central, Keys(None, VARIABLE)), central


def test_only_an_admin_key_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    guarded, _ = admin()
    guarded.check(KEY)
    with pytest.raises(UnauthenticatedError):
        guarded.check("")
    with pytest.raises(ForbiddenError):
        guarded.check(KEY + "x")


def test_nobody_has_a_key_where_none_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    guarded, _ = admin()
    with pytest.raises(ForbiddenError):
        guarded.check(KEY)


@pytest.mark.parametrize("shadow", [False, True])
def test_a_bundle_is_deployed_as_it_is_on_this_node(bundle: Bundle, shadow: bool) -> None:
    outcome = Outcome(
        name="digits", version=bundle.version, previous="old", replicas=2, behind=1, seconds=1.23456
    )
    wishes, central = admin(outcome)
    found = asyncio.run(wishes.deploy(str(bundle.path), shadow, 0.5))
    target = Target(bundle.name, bundle.version, str(bundle.path.resolve()))
    assert central.asked == [("deploy", target, 0.5 if shadow else None)]
    assert found == {
        "model": {"name": "digits", "version": bundle.version},
        "previous": "old",
        "shadow": shadow,
        "replicas": 2,
        "behind": 1,
        "seconds": 1.235,
    }


def test_a_bundle_that_is_none_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    wishes, central = admin()
    (tmp_path / "manifest.json").write_text("{}")
    for bundle in ("no-such-bundle", str(tmp_path), str(tmp_path / "x" / ("y" * 5000))):
        with pytest.raises(DeployError):
            asyncio.run(wishes.deploy(bundle, False, 1.0))
    for share in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(BadParameterError, match=r"expected a number in \(0, 1\]"):
            asyncio.run(wishes.deploy("any", True, share))
    assert not central.asked


def test_a_refusal_is_told_and_whatever_else_is_worth_another_try() -> None:
    refusal = DeployError("digits 2 was refused: a byte is wrong")
    with pytest.raises(DeployError, match="a byte is wrong"):
        asyncio.run(admin(refusal)[0].end_shadow("digits"))
    with pytest.raises(NotReadyError, match="the monitor is not reachable; try again"):
        asyncio.run(admin(ConnectionError("10.0.0.7"))[0].state())


def test_a_refusal_comes_through_ray_as_it_was() -> None:
    exceptions = pytest.importorskip("ray.exceptions")

    class Wrapped(exceptions.RayTaskError):  # type: ignore[misc,name-defined]
        def __init__(self, cause: Exception) -> None:
            self.cause = cause

    with pytest.raises(DeployError, match="a byte is wrong"):
        asyncio.run(admin(Wrapped(DeployError("a byte is wrong")))[0].state())
    with pytest.raises(Wrapped):  # a fault of ours: internal, with its own traceback in the log
        asyncio.run(admin(Wrapped(KeyError("secret")))[0].state())


def test_the_state_tells_of_each_shadow_what_it_decided() -> None:
    one, two = Target("digits", "1", "/b/1"), Target("digits", "2", "/b/2")
    plan = Plan(number=9, serving=(one,), shadows=((two, 0.5),))
    decided = {
        ("digits", "2", "reject", "accept", "false"): 3,
        ("digits", "2", "accept", "accept", "true"): 4,
        ("digits", "3", "accept", "accept", "true"): 50,
    }
    found = asyncio.run(admin((plan, 2, decided))[0].state())
    assert found["models"] == [{"name": "digits", "version": "1", "path": "/b/1"}]
    assert (found["replicas"], found["staged"]) == (2, None)
    (shadow,) = found["shadows"]
    assert (shadow["version"], shadow["share"], shadow["images"]) == ("2", 0.5, 7)
    assert shadow["decisions"] == [
        {"live": "accept", "shadow": "accept", "same_class": True, "images": 4},
        {"live": "reject", "shadow": "accept", "same_class": False, "images": 3},
    ]


def test_a_target_is_named_by_the_manifest(bundle: Bundle) -> None:
    assert target_of(bundle.path).version == bundle.version
    assert Path(target_of(bundle.path).path).is_absolute()
