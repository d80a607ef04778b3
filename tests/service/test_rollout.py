"""The plan of what is served, asked by replicas that do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from service import rollout as module
from service.errors import DeployError
from service.rollout import LOST_AFTER_S, Plan, Report, Rollout, Target
from tests.service.fleet import target, until

ONE, TWO, OTHER = target("1"), target("2"), target("7", "letters")


async def said(
    rollout: Rollout,
    replica: str,
    *loaded: Target,
    refused: dict[Target, str] | None = None,
    number: int | None = None,
) -> Plan:
    """A report of a replica that has seen the plan, and carried it out unless told otherwise."""
    seen = rollout.plan.number
    report = Report(
        seen=seen,
        number=seen if number is None else number,
        loaded=frozenset(loaded),
        refused=refused or {},
    )
    return await rollout.sync(replica, report, 0)


async def a_while() -> None:
    """For whatever can go on to do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def begun(*configured: Target, **given: Any) -> Rollout:
    rollout = Rollout(**given)
    asyncio.run(rollout.begin(configured or (ONE,)))
    return rollout


def run(test: Callable[[Rollout], Coroutine[Any, Any, None]]) -> None:
    async def begin() -> None:
        rollout = Rollout()
        await rollout.begin((ONE, OTHER))
        await test(rollout)

    asyncio.run(begin())


def test_the_first_configuration_is_the_first_plan() -> None:
    rollout = begun(ONE, OTHER)
    assert rollout.plan == Plan(number=1, serving=(ONE, OTHER))
    assert asyncio.run(rollout.begin((TWO,))) == rollout.plan


def test_a_plan_is_read_as_it_was_written_but_for_what_was_staged() -> None:
    plan = Plan(number=7, serving=(ONE, OTHER), staged=TWO, shadows=((TWO, 0.1),))
    assert plan.targets() == {ONE, OTHER, TWO}
    found = Plan.from_json(plan.to_json())
    assert found == Plan(number=7, serving=(ONE, OTHER), shadows=((TWO, 0.1),))


def test_every_change_is_saved_and_the_last_one_restored() -> None:
    saved: list[str] = []

    async def test() -> None:
        rollout = Rollout(save=saved.append)
        await rollout.begin((ONE,))
        task = asyncio.create_task(rollout.deploy(TWO))
        await asyncio.sleep(0)
        assert Plan.from_json(saved[-1]).serving == (ONE,)
        await said(rollout, "a", ONE, TWO)
        await until(lambda: rollout.plan.staged is None)
        await said(rollout, "a", ONE, TWO)
        await task
        restored = Rollout(saved[-1])
        assert restored.plan == rollout.plan
        assert (await restored.begin((ONE,))).serving == (TWO,)
        assert [Plan.from_json(text).number for text in saved] == [1, 2, 3]

    asyncio.run(test())


def test_a_deployment_ends_when_all_have_carried_it_out() -> None:
    async def test(rollout: Rollout) -> None:
        await said(rollout, "a", ONE)
        await said(rollout, "b", ONE)
        task = asyncio.create_task(rollout.deploy(TWO))
        await asyncio.sleep(0)
        assert rollout.plan.staged == TWO
        await said(rollout, "a", ONE, TWO)
        await a_while()
        assert rollout.plan.serving == (ONE, OTHER)  # b has not loaded it
        await said(rollout, "b", ONE, TWO)
        await until(lambda: rollout.plan.serving == (TWO, OTHER))
        behind = rollout.plan.number - 1
        await said(rollout, "a", TWO)
        await said(rollout, "b", ONE, TWO, number=behind)
        await a_while()
        assert not task.done()
        await said(rollout, "b", TWO)
        outcome = await task
        assert (outcome.version, outcome.previous, outcome.replicas) == ("2", "1", 2)

    run(test)


def test_nothing_is_deployed_where_no_replica_is_known() -> None:
    """A holder of the plan that has just started knows none yet."""

    async def test(rollout: Rollout) -> None:
        task = asyncio.create_task(rollout.deploy(TWO))
        await a_while()
        assert rollout.plan.serving == (ONE, OTHER)
        await said(rollout, "a", ONE, TWO)
        await until(lambda: rollout.plan.serving == (TWO, OTHER))
        await said(rollout, "a", TWO)
        assert (await task).replicas == 1

    run(test)


def test_what_was_said_of_an_earlier_try_does_not_count() -> None:
    async def test(rollout: Rollout) -> None:
        refused = {TWO: "no space left"}
        for _ in range(2):
            task = asyncio.create_task(rollout.deploy(TWO))
            await asyncio.sleep(0)
            await said(rollout, "a", ONE, refused=refused)
            with pytest.raises(DeployError, match="digits 2 was refused: no space left"):
                await task
            assert rollout.plan.staged is None
        task = asyncio.create_task(rollout.deploy(TWO))
        await asyncio.sleep(0)
        await said(rollout, "a", ONE, TWO)
        await until(lambda: rollout.plan.serving == (TWO, OTHER))
        await said(rollout, "a", TWO)
        await task

    run(test)


def test_a_lost_replica_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

    monkeypatch.setattr(module, "time", Clock)

    async def test(rollout: Rollout) -> None:
        await said(rollout, "a", ONE)
        await said(rollout, "lost", ONE)
        assert rollout.replicas() == 2
        task = asyncio.create_task(rollout.deploy(TWO))
        await asyncio.sleep(0)
        await said(rollout, "a", ONE, TWO)
        await a_while()
        assert rollout.plan.serving == (ONE, OTHER)
        Clock.now += LOST_AFTER_S
        await said(rollout, "a", ONE, TWO)
        await until(lambda: rollout.plan.serving == (TWO, OTHER))
        await said(rollout, "a", TWO)
        assert (await task).replicas == 1
        assert rollout.replicas() == 1

    run(test)


def test_a_replica_that_never_gets_done_ends_the_deployment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STAGE_TIMEOUT_S", -1.0)

    async def test(rollout: Rollout) -> None:
        await said(rollout, "a", ONE)
        with pytest.raises(DeployError, match="not all replicas were done within"):
            await rollout.deploy(TWO)
        assert rollout.plan.staged is None
        assert rollout.plan.serving == (ONE, OTHER)

    run(test)


def test_a_replica_that_stopped_in_good_order_is_not_waited_for() -> None:
    async def test(rollout: Rollout) -> None:
        await said(rollout, "a", ONE)
        await said(rollout, "b", ONE)
        rollout.forget("b")
        rollout.forget("nobody")
        assert rollout.replicas() == 1

    run(test)


def test_a_second_deployment_at_once_is_refused() -> None:
    async def test(rollout: Rollout) -> None:
        task = asyncio.create_task(rollout.deploy(TWO))
        await asyncio.sleep(0)
        plan = rollout.plan
        for second in (
            rollout.deploy(TWO),
            rollout.shadow(TWO, 0.5),
            rollout.end_shadow("digits"),
        ):
            with pytest.raises(DeployError, match="another deployment is under way: wait"):
                await second
        assert rollout.plan == plan
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rollout.plan.staged is None

    run(test)


def test_a_name_that_is_not_served_cannot_be_replaced() -> None:
    async def test(rollout: Rollout) -> None:
        plan = rollout.plan
        for wish in (rollout.deploy, lambda t: rollout.shadow(t, 1.0)):
            with pytest.raises(DeployError, match=r"no model 'cars' .* of digits, letters;"):
                await wish(target("1", "cars"))
        assert rollout.plan == plan

    run(test)


def test_the_same_target_again_is_no_fault() -> None:
    async def test(rollout: Rollout) -> None:
        task = asyncio.create_task(rollout.deploy(ONE))
        await asyncio.sleep(0)
        await said(rollout, "a", ONE)
        await until(lambda: rollout.plan.staged is None)
        await said(rollout, "a", ONE)
        outcome = await task
        assert (outcome.version, outcome.previous) == ("1", "1")
        assert rollout.plan.serving == (ONE, OTHER)

    run(test)


def test_a_replica_that_has_seen_the_plan_waits_for_news() -> None:
    """Whether or not it could carry the plan out: else it would ask without a pause."""

    async def test(rollout: Rollout) -> None:
        behind = Report(seen=rollout.plan.number, number=0, loaded=frozenset())
        waiting = asyncio.create_task(rollout.sync("a", behind, 3600))
        await a_while()
        assert not waiting.done()
        task = asyncio.create_task(rollout.deploy(TWO))
        assert (await waiting).staged == TWO
        late = Report(seen=0, number=0, loaded=frozenset())
        assert (await rollout.sync("b", late, 3600)).staged == TWO
        task.cancel()
        await asyncio.wait([task])

    run(test)


def test_replicas_that_are_late_are_counted_and_the_plan_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(rollout: Rollout) -> None:
        await said(rollout, "a", ONE)
        await said(rollout, "b", ONE)
        task = asyncio.create_task(rollout.deploy(TWO))
        await asyncio.sleep(0)
        await said(rollout, "a", ONE, TWO)
        monkeypatch.setattr(module, "STAGE_TIMEOUT_S", -1.0)  # of what comes after the staging
        await said(rollout, "b", ONE, TWO)
        outcome = await task
        assert outcome.replicas + outcome.behind == 2
        assert rollout.plan.serving == (TWO, OTHER)

    run(test)


def test_a_new_holder_of_the_plan_hears_all_replicas_before_it_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.2)

    async def test() -> None:
        rollout = Rollout(Plan(number=3, serving=(ONE, OTHER)).to_json())
        task = asyncio.create_task(rollout.deploy(TWO))
        await asyncio.sleep(0)
        await said(rollout, "a", ONE, TWO)
        await a_while()
        assert rollout.plan.serving == (ONE, OTHER)  # b may have something to say
        await said(rollout, "b", ONE, refused={TWO: "a byte is wrong"})
        with pytest.raises(DeployError, match="a byte is wrong"):
            await task

    asyncio.run(test())
