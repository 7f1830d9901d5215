"""The contract, "Talking to a run": approvals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Client, CommandRejected, ConfigurationError, Handle, Orchestrator, approval
from tests.contract.world import World

app = Orchestrator("contract-approvals")
go = app.signal("go", bool)


@app.workflow
async def deploys(version: int) -> str:
    answer = await approval("deploy", {"version": version}, to="ops")
    return f"{answer.outcome} by {answer.by}: {answer.comment}" if answer else answer.outcome


@app.workflow
async def hurries() -> str:
    answer = await approval("deploy", to=["ops", "eva"], expires=timedelta(milliseconds=200))
    assert not answer
    await go.wait()
    return answer.outcome


@app.workflow
async def asks_two() -> list[str]:
    asked = [asyncio.ensure_future(approval(name)) for name in ("left", "right")]
    done, others = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for one in others:
        one.cancel()
    return [one.result().outcome for one in done]


async def inbox(client: Client, number: int, **by: str) -> list[Any]:
    """Wait until so many questions stand."""
    while len(found := [one async for one in client.approvals.list(**by)]) != number:
        await asyncio.sleep(0.02)
    return found


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    while not await holds():
        await asyncio.sleep(0.02)


async def kinds(handle: Handle[Any]) -> list[str]:
    """The types of a run's events."""
    return [event.type async for event in handle.history()]


@pytest.mark.contract("approval", "approval-inbox", "approval-history")
def test_the_inbox_lists_what_waits_across_runs_and_history_says_who_approved_what(world: World) -> None:
    async def scenario(client: Client) -> None:
        runs = [await client.start(deploys, number) for number in range(3)]
        other = await client.start(asks_two)
        assert len(await inbox(client, 5)) == 5
        assert len(await inbox(client, 1, name="left")) == 1
        found = {one.request["version"]: one for one in await inbox(client, 3, to="ops")}
        assert [found[number].workflow_id for number in range(3)] == [run.workflow_id for run in runs]
        assert "approval deploy by ops" in (await runs[0].describe()).why
        await client.approvals.approve(found[1].id, found[1].digest, comment="looks good", by="eva")
        await client.approvals.reject(found[2].id, found[2].digest, by="max")
        assert await runs[1].result() == "approved by eva: looks good"
        assert await runs[2].result() == "rejected"
        (asked,) = [event.body async for event in runs[1].history() if event.type == "ApprovalAsked"]
        (decided,) = [event async for event in runs[1].history() if event.type == "ApprovalDecided"]
        assert asked["request"] == {"version": 1}
        assert decided.body["by"] == "eva"
        assert decided.body["digest"] == asked["digest"] == found[1].digest
        assert [one.workflow_id for one in await inbox(client, 1, to="ops")] == [runs[0].workflow_id]
        await runs[0].terminate()
        await other.terminate()
        await inbox(client, 0)

    world.run(app, scenario)


@pytest.mark.contract("approval", "approval-history")
def test_one_answer_counts_and_only_to_what_was_asked(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(deploys, 7)
        (one,) = await inbox(client, 1)
        assert (await client.approvals.describe(one.id)).request == {"version": 7}
        with pytest.raises(CommandRejected, match="look again") as other:
            await client.approvals.approve(one.id, "0" * 64)
        assert other.value.code == "other_request"
        with pytest.raises(ConfigurationError, match="approval list"):
            await client.approvals.approve("deploy", one.digest)
        eva = client.using(command_id="hers")
        first, again = [await eva.approvals.approve(one.id, one.digest, by="eva") for _ in range(2)]
        assert first.outcome == again.outcome
        with pytest.raises(CommandRejected, match="waits for no approval") as late:
            await client.approvals.reject(one.id, one.digest, by="max")
        assert late.value.code == "not_waiting"
        assert await handle.result() == "approved by eva: "
        with pytest.raises(CommandRejected, match="waits for no answer"):
            await client.approvals.describe(one.id)

    world.run(app, scenario)


@pytest.mark.contract("approval")
def test_an_approval_expires(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(hurries)

        async def is_over() -> bool:
            return "ApprovalExpired" in await kinds(handle)

        await until(is_over)
        await inbox(client, 0)
        await world.restart()
        await handle.signal(go, True)
        assert await handle.result() == "expired"

    world.run(app, scenario)


@pytest.mark.contract("approval", "approval-inbox")
def test_an_approval_survives_restarts_and_is_withdrawn_with_its_await(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(asks_two)
        await inbox(client, 2)
        await world.restart()
        found = {one.name: one for one in await inbox(client, 2)}
        await client.approvals.approve(found["right"].id, found["right"].digest)
        assert await handle.result() == ["approved"]
        assert (await kinds(handle)).count("ApprovalWithdrawn") == 1
        await inbox(client, 0)

    world.run(app, scenario)


@pytest.mark.contract("approval")
def test_a_fork_asks_again_what_nobody_answered(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(deploys, 4)
        (before,) = await inbox(client, 1)
        (asked,) = [event.seq async for event in first.history() if event.type == "ApprovalAsked"]
        forked = await first.reset(event=asked)
        (one,) = await inbox(client, 1)
        assert (one.run_id, one.digest) == (forked.run_id, before.digest)
        await client.approvals.reject(one.id, one.digest)
        assert await forked.result() == "rejected"

    world.run(app, scenario)


@pytest.mark.contract("approval", "approval-history")
def test_answers_while_partitions_change_their_owner(world: World) -> None:
    """An answer that was acknowledged is the run's, whoever owned the partition when it came."""

    async def scenario(client: Client) -> None:
        handles = [await client.start(deploys, number) for number in range(12)]
        found = {one.workflow_id: one for one in await inbox(client, 12)}

        async def answer(handle: Handle[str]) -> None:
            one = found[handle.workflow_id]
            await client.approvals.approve(one.id, one.digest, by="eva")

        await asyncio.gather(world.restart(), *(answer(handle) for handle in handles))
        assert [await handle.result() for handle in handles] == ["approved by eva: "] * 12
        for handle in handles:
            assert (await kinds(handle)).count("ApprovalDecided") == 1

    world.run(app, scenario)
