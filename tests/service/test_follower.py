"""Several replicas and one rollout: all swap or none, and every request sees one version."""

from __future__ import annotations

import asyncio
import random

import pytest

from service import follower
from service.errors import DeployError
from service.rollout import Plan, Report, Rollout
from service.served import Models
from tests.service.fakes import images
from tests.service.fleet import Replica, fleet, refusal, target, until


def serving(replicas: list[Replica]) -> list[dict[str, str]]:
    return [replica.versions() for replica in replicas]


def test_all_replicas_serve_the_new_bundle_when_a_deployment_has_ended() -> None:
    async def run() -> None:
        async with fleet(3) as (rollout, replicas):
            for version in ("2", "3", "1", "2"):
                before = rollout.plan.serving[0].version
                outcome = await rollout.deploy(target(version))
                assert serving(replicas) == [{"digits": version}] * 3
                assert (outcome.version, outcome.previous) == (version, before)
                assert (outcome.name, outcome.replicas) == ("digits", 3)
                assert rollout.plan.staged is None
            await until(lambda: all(r.report.loaded == {target("2")} for r in replicas))

    asyncio.run(run())


def test_other_models_go_on_unchanged() -> None:
    async def run() -> None:
        async with fleet(2, target("1"), target("7", "letters")) as (rollout, replicas):
            letters = [replica.models.find("letters") for replica in replicas]
            await rollout.deploy(target("2"))
            assert serving(replicas) == [{"digits": "2", "letters": "7"}] * 2
            assert [r.models.find("letters") for r in replicas] == letters
            assert [r.models.default.name.name for r in replicas] == ["digits"] * 2

    asyncio.run(run())


def test_one_refusal_changes_nothing_anywhere() -> None:
    async def run() -> None:
        async with fleet(3) as (rollout, replicas):
            before = [replica.models.default for replica in replicas]
            replicas[1].broken[target("2")] = refusal("weights.safetensors: a byte is wrong")
            with pytest.raises(DeployError, match=r"digits 2 was refused: weights.*wrong"):
                await rollout.deploy(target("2"))
            assert rollout.plan.serving == (target("1"),)
            assert rollout.plan.staged is None
            await until(lambda: all(r.report.loaded == {target("1")} for r in replicas))
            assert [replica.models.default for replica in replicas] == before
            assert all(not replica.report.refused for replica in replicas)

    asyncio.run(run())


def test_a_refusal_without_words_is_named_by_its_kind() -> None:
    async def run() -> None:
        async with fleet(1) as (rollout, replicas):
            replicas[0].broken[target("2")] = MemoryError()
            with pytest.raises(DeployError, match=r"refused: MemoryError\(\)"):
                await rollout.deploy(target("2"))

    asyncio.run(run())


def test_a_bundle_that_was_mended_is_tried_anew_at_once() -> None:
    async def run() -> None:
        async with fleet(2) as (rollout, replicas):
            replicas[0].broken[target("2")] = refusal("no space left")
            with pytest.raises(DeployError):
                await rollout.deploy(target("2"))
            del replicas[0].broken[target("2")]
            await rollout.deploy(target("2"))
            assert serving(replicas) == [{"digits": "2"}] * 2
            assert replicas[0].attempts.count(target("2")) == 2

    asyncio.run(run())


def test_another_version_at_the_same_place_is_refused() -> None:
    async def run() -> None:
        async with fleet(2) as (rollout, replicas):
            replicas[1].renamed[target("2")] = "old"
            with pytest.raises(DeployError, match="digits old here, expected digits 2: have"):
                await rollout.deploy(target("2"))
            assert serving(replicas) == [{"digits": "1"}] * 2

    asyncio.run(run())


def test_a_slow_replica_is_waited_for_and_the_others_answer_with_the_old_one() -> None:
    async def run() -> None:
        async with fleet(3) as (rollout, replicas):
            replicas[2].closed.clear()
            task = asyncio.create_task(rollout.deploy(target("2")))
            await until(lambda: all(target("2") in r.report.loaded for r in replicas[:2]))
            assert serving(replicas) == [{"digits": "1"}] * 3
            assert not task.done()
            replicas[2].closed.set()
            assert (await task).replicas == 3
            assert serving(replicas) == [{"digits": "2"}] * 3

    asyncio.run(run())


def test_a_replica_that_starts_during_a_deployment_follows_the_plan() -> None:
    async def run() -> None:
        async with fleet(2) as (rollout, replicas):
            replicas[0].closed.clear()
            task = asyncio.create_task(rollout.deploy(target("2")))
            await until(lambda: rollout.plan.staged is not None)
            late = Replica(rollout)
            await late.start((target("1"),))
            assert late.versions() == {"digits": "1"}
            replicas[0].closed.set()
            await task
            await until(lambda: late.versions() == {"digits": "2"})
            later = Replica(rollout)
            await later.start((target("1"),))
            assert later.attempts == [target("2")]
            for replica in (late, later):
                await replica.stop()

    asyncio.run(run())


def test_a_cancelled_deployment_leaves_nothing_staged() -> None:
    async def run() -> None:
        async with fleet(2) as (rollout, replicas):
            replicas[0].closed.clear()
            task = asyncio.create_task(rollout.deploy(target("2")))
            await until(lambda: target("2") in replicas[0].attempts)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert rollout.plan.staged is None
            replicas[0].closed.set()
            await until(lambda: all(r.report.loaded == {target("1")} for r in replicas))
            await until(lambda: all(r.report.seen == rollout.plan.number for r in replicas))
            assert serving(replicas) == [{"digits": "1"}] * 2
            await rollout.deploy(target("3"))
            assert serving(replicas) == [{"digits": "3"}] * 2

    asyncio.run(run())


def test_a_shadow_is_shown_promoted_and_ended() -> None:
    async def run() -> None:
        async with fleet(2, target("1"), target("7", "letters")) as (rollout, replicas):
            outcome = await rollout.shadow(target("2"), 0.25)
            await rollout.shadow(target("8", "letters"), 1.0)
            assert (outcome.previous, outcome.replicas) == ("1", 2)
            assert serving(replicas) == [{"digits": "1", "letters": "7"}] * 2
            both = {"digits": ("2", 0.25), "letters": ("8", 1.0)}
            assert [replica.shadows() for replica in replicas] == [both] * 2
            await rollout.shadow(target("3"), 0.5)
            assert all(replica.shadows()["digits"] == ("3", 0.5) for replica in replicas)
            await rollout.deploy(target("3"))
            assert serving(replicas) == [{"digits": "3", "letters": "7"}] * 2
            assert [replica.shadows() for replica in replicas] == [{"letters": ("8", 1.0)}] * 2
            assert replicas[0].attempts.count(target("3")) == 1
            await rollout.end_shadow("letters")
            assert [replica.shadows() for replica in replicas] == [{}] * 2
            with pytest.raises(DeployError, match="model 'letters' has no shadow"):
                await rollout.end_shadow("letters")

    asyncio.run(run())


def test_a_replica_goes_on_without_a_monitor_and_finds_the_next_one() -> None:
    saved: list[str] = []

    async def run() -> None:
        async with fleet(2, rollout=Rollout(save=saved.append)) as (rollout, replicas):
            await rollout.deploy(target("2"))
            for replica in replicas:
                replica.rollout = _Gone()
            asked = [replica.questions for replica in replicas]
            await until(lambda: all(r.questions > n for r, n in zip(replicas, asked, strict=True)))
            assert serving(replicas) == [{"digits": "2"}] * 2
            successor = Rollout(saved[-1])
            for replica in replicas:
                replica.rollout = successor
            assert successor.plan.serving == (target("2"),)
            await until(lambda: successor.replicas() == 2)
            await successor.deploy(target("3"))
            assert serving(replicas) == [{"digits": "3"}] * 2

    asyncio.run(run())


class _Gone(Rollout):
    async def sync(self, replica: str, report: Report, wait_s: float) -> Plan:
        raise ConnectionError("the actor has died")


def test_what_a_replica_cannot_serve_is_seen_and_not_carried_out() -> None:
    """Else it would ask again as fast as it can, for it would always be behind the plan."""

    class Ahead(Rollout):
        async def sync(self, replica: str, report: Report, wait_s: float) -> Plan:
            await asyncio.sleep(0)
            return Plan(number=5, serving=(target("2"),))

    async def run() -> None:
        replica = Replica(Ahead())
        replica.broken[target("2")] = refusal("not on this node")
        await replica.start((target("1"),))
        await until(lambda: target("2") in replica.report.refused)
        assert (replica.report.seen, replica.report.number) == (5, 1)
        assert replica.versions() == {"digits": "1"}
        assert replica.attempts.count(target("2")) == 1
        await replica.stop()

    asyncio.run(run())


def test_a_replica_that_stops_while_it_loads_leaves_no_task() -> None:
    async def run() -> None:
        async with fleet(1) as (rollout, (replica,)):
            replica.closed.clear()
            task = asyncio.create_task(rollout.deploy(target("2")))
            await until(lambda: target("2") in replica.attempts)
            await replica.stop()
            task.cancel()
            await asyncio.wait([task])
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
def test_requests_during_swaps_are_answered_by_one_version_and_by_the_right_one(seed: int) -> None:
    """The old one or the new while a deployment is under way, and the new when it has ended."""
    draw = random.Random(seed)
    begun = ended = 1

    async def ask(models: Models) -> None:
        numbers = [draw.randrange(60_000) for _ in range(draw.randint(1, 9))]
        served = models.find("digits")
        allowed = range(ended, begun + 1)
        found = await served.classify(images(*numbers), None)
        assert {verdict.mode for verdict in found.verdicts} == {served.name.version}
        assert [verdict.score for verdict in found.verdicts] == numbers
        assert int(served.name.version) in allowed

    async def run() -> None:
        nonlocal begun, ended
        async with fleet(2) as (rollout, replicas):
            over = asyncio.Event()

            async def traffic(models: Models) -> int:
                rounds = 0
                while not over.is_set():
                    await asyncio.gather(*(ask(models) for _ in range(4)))
                    rounds += 1
                return rounds

            tasks = [asyncio.create_task(traffic(replica.models)) for replica in replicas]
            for number in range(2, 8):
                begun = number
                await rollout.deploy(target(str(number)))
                ended = number
            over.set()
            assert all(await asyncio.gather(*tasks))

    asyncio.run(run())


def test_what_all_others_serve_is_tried_again_until_it_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower, "REFUSED_RETRY_S", 0.0)

    async def run() -> None:
        async with fleet(2) as (rollout, replicas):
            late = replicas[1]
            late.broken[target("2")] = refusal("the disk is not there yet")
            rollout._set(serving=(target("2"),))  # as after a deployment that it has missed
            await until(lambda: serving(replicas) == [{"digits": "2"}, {"digits": "1"}])
            await until(lambda: late.attempts.count(target("2")) > 2)
            del late.broken[target("2")]
            await until(lambda: serving(replicas) == [{"digits": "2"}] * 2)

    asyncio.run(run())


def test_a_shadow_that_cannot_be_loaded_does_not_keep_another_model_from_a_swap() -> None:
    async def run() -> None:
        async with fleet(2, target("1"), target("7", "letters")) as (rollout, replicas):
            for replica in replicas:
                replica.broken[target("8", "letters")] = refusal("gone")
            rollout._set(shadows=((target("8", "letters"), 1.0),))
            await rollout.deploy(target("2"))
            assert serving(replicas) == [{"digits": "2", "letters": "7"}] * 2
            assert all(not replica.models.shadows for replica in replicas)

    asyncio.run(run())
