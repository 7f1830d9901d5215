"""The contract, "All of them in bulk over a filter, with a dry run"."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import (
    Client,
    ConfigurationError,
    DoesNotRoundTrip,
    Handle,
    Orchestrator,
    RunCancelled,
    Selection,
    continue_as_new,
)
from orchestrator.client.batches import Done
from orchestrator.core.values import Payload
from orchestrator.engine.queries import Queries
from tests.contract.world import World

app = Orchestrator("contract-batches")
go = app.signal("go", int)
verb = app.attribute("verb", str)
paid: Counter[str] = Counter()
broken: set[str] = set()


@app.error
class Declined(Exception):
    pass


@app.workflow
async def waits(number: int) -> int:
    return number + await go.wait()


@app.workflow
async def others() -> int:
    return await go.wait()


@app.step(retry=1)
async def pays(what: str) -> str:
    paid[what] += 1
    if what in broken:
        raise Declined(what)
    return f"paid {what}"


@app.workflow(version=2)
async def trip(who: str) -> list[Any]:
    first = await pays(f"{who} flight")
    return [first, await go.wait(), await pays(f"{who} dinner")]


@trip.older(version=1)  # type: ignore[arg-type]  # it took a number then
async def trip_v1(who: int) -> list[Any]:
    return [await pays("flight"), await go.wait(), who]


@app.workflow
async def bug(who: str) -> None:
    raise ValueError(who)


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    paid.clear()
    broken.clear()


async def story(handle: Handle[Any]) -> Counter[str]:
    return Counter([event.type async for event in handle.history()])


async def until(holds: Callable[[Handle[Any]], Any], *handles: Handle[Any]) -> None:
    """Every one of them is so."""
    while not all([await holds(handle) for handle in handles]):
        await asyncio.sleep(0.02)


async def first_paid(handle: Handle[Any]) -> bool:
    return "StepCompleted" in await story(handle)


async def has_continued(handle: Handle[Any]) -> bool:
    return (await handle.describe()).status == "continued_as_new"


async def is_parked(handle: Handle[Any]) -> bool:
    return (await handle.describe()).status == "parked"


@pytest.mark.contract("bulk")
def test_a_batch_is_shown_then_done_to_each_and_done_once(world: World) -> None:
    async def scenario(client: Client) -> None:
        mine = await asyncio.gather(*(client.start(waits, number) for number in range(7)))
        other = await client.start(others)
        of_mine = Selection(workflow_type="waits")
        shown = await client.batch("pause", of_mine, dry_run=True)
        assert {one.run_id for one in shown} == {handle.run_id for handle in mine}
        assert {(await handle.describe()).status for handle in mine} == {"running"}
        for _ in range(2):
            done = await client.batch("pause", of_mine, batch_id="b1")
            assert {one.outcome for one in done} <= {"done"}
        assert {(await handle.describe()).status for handle in mine} == {"paused"}
        assert (await other.describe()).status == "running"
        assert len(await client.batch("resume", of_mine._replace(limit=3))) == 3
        assert len(await client.batch("resume", of_mine)) == 4
        cancelled = await client.batch("cancel", of_mine, batch_id="b2")
        assert [one.outcome for one in cancelled] == ["done"] * 7
        for handle in mine:
            with pytest.raises(RunCancelled):
                await handle.result()
            kinds = [event.type async for event in handle.history()]
            assert (kinds.count("RunPaused"), kinds.count("CancelRequested")) == (1, 1)
        await other.signal(go, 5)
        assert await other.result() == 5

    world.run(app, scenario)


@app.workflow
async def counts(found: list[int], rounds: int) -> list[int]:
    """Takes one value a run."""
    taken = [*found, await go.wait()]
    if len(taken) < rounds:
        continue_as_new(taken, rounds)
    return taken


@pytest.mark.contract("bulk")
def test_a_workflow_that_continued_as_new_is_not_asked_again(world: World) -> None:
    async def scenario(client: Client) -> None:
        mine = Selection(workflow_type="counts")
        starts = [counts.options(id=name) for name in ("ann", "bob")]
        first = [await client.start(start, [], 3) for start in starts]
        for _ in range(2):
            done = await client.batch("signal", mine, signal=go, value=1, batch_id="b1")
            assert [one.outcome for one in done] == ["done", "done"]
            await until(has_continued, *first)
        done = await client.batch("signal", mine, signal=go, value=2, batch_id="b1")
        assert [one.outcome for one in done] == ["done", "done"], "another value is another thing"
        # Those that went on stand for the newest of their ids, if somebody insists on them.
        done = await client.batch("signal", mine._replace(status="continued_as_new"), signal=go, value=3, batch_id="b1")
        assert {one.outcome for one in done} == {"done"}
        assert [await handle.result() for handle in first] == [[1, 2, 3], [1, 2, 3]]

    world.run(app, scenario)


@pytest.mark.contract("bulk")
def test_one_batch_id_for_two_verbs_does_both(world: World) -> None:
    async def scenario(client: Client) -> None:
        handles = [await client.start(waits, number) for number in range(3)]
        mine = Selection(workflow_type="waits")
        await client.batch("pause", mine, batch_id="b1")
        await client.batch("signal", mine, signal=go, value=1, batch_id="b1")
        await client.batch("cancel", mine, batch_id="b1")
        for handle in handles:
            kinds = await story(handle)
            assert (kinds["RunPaused"], kinds["SignalReceived"], kinds["CancelRequested"]) == (1, 1, 1)

    world.run(app, scenario)


VERBS = ("cancel", "terminate", "retry", "pause", "signal", "reset", "to an event", "fork", "edited")
WHO = ("ann", "bob")


async def begun(client: Client) -> dict[str, list[Handle[Any]]]:
    """Two runs for each verb, where it makes sense for them; found by their attribute."""
    broken.update(f"{who} reset flight" for who in WHO)
    found: dict[str, list[Handle[Any]]] = {}
    for name in VERBS:
        flow = bug if name == "retry" else trip
        starts = [flow.options(id=f"{who} {name}", attributes=[verb.of(name)]) for who in WHO]
        found[name] = [await client.start(start, start.start_options.id) for start in starts]
    for name, handles in found.items():
        if name == "reset":
            await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
        else:
            await until(is_parked if name == "retry" else first_paid, *handles)
    broken.clear()
    return found


async def stand(client: Client) -> set[tuple[str, ...]]:
    """What runs there are, how each stands, and what was asked of it."""
    asked = ("CancelRequested", "RunPaused", "RunResumed", "SignalReceived")
    found = set()
    async for run in client.runs():
        kinds = await story(client.handle(trip, run.workflow_id, run.run_id))
        found.add((run.workflow_id, run.run_id, run.status, *(f"{kind} {kinds[kind]}" for kind in asked)))
    return found


def of(name: str) -> Selection:
    return Selection(where=[verb.where("=", name)])


async def tried(client: Client, name: Any, group: str, handles: list[Handle[Any]], **options: Any) -> None:
    """Shown first, which changes nothing; then done to those that were shown."""
    before = await stand(client)
    selection = of(group)._replace(workflow_type="trip" if "arguments" in options else "")
    shown = await client.batch(name, selection, dry_run=True, **options)
    wanted = sorted((handle.workflow_id, handle.run_id) for handle in handles)
    assert sorted((one.workflow_id, one.run_id) for one in shown) == wanted
    assert {one.outcome for one in shown} == {"chosen"}
    assert await stand(client) == before
    done: list[Done] = await client.batch(name, selection, batch_id=f"{group} {name}", **options)
    assert sorted(done) == sorted(Done(*one, "done") for one in wanted)


@pytest.mark.contract("bulk")
def test_every_verb_is_shown_first_and_then_done(world: World) -> None:
    async def scenario(client: Client) -> None:
        runs = await begun(client)
        for name, status in (("cancel", "cancelled"), ("terminate", "terminated")):
            await tried(client, name, name, runs[name])
            await asyncio.gather(*(handle.result() for handle in runs[name]), return_exceptions=True)
            assert [(await handle.describe()).status for handle in runs[name]] == [status] * 2
        await tried(client, "retry", "retry", runs["retry"])
        await until(is_parked, *runs["retry"])
        assert [(await story(handle))["RunResumed"] for handle in runs["retry"]] == [1, 1]
        await tried(client, "pause", "pause", runs["pause"])
        assert {(await handle.describe()).status for handle in runs["pause"]} == {"paused"}
        await tried(client, "resume", "pause", runs["pause"])
        await tried(client, "signal", "pause", runs["pause"], signal=go, value=3)
        await tried(client, "signal", "signal", runs["signal"], signal=go, value=7)
        assert [await handle.result() for handle in runs["signal"]] == [
            [f"paid {who} signal flight", 7, f"paid {who} signal dinner"] for who in WHO
        ]
        assert [(await handle.result())[1] for handle in runs["pause"]] == [3, 3]

        await tried(client, "reset", "reset", runs["reset"])
        await tried(client, "reset", "to an event", runs["to an event"], event=1, keep_signals=False)
        await tried(client, "fork", "fork", runs["fork"], step="pays")
        await tried(client, "fork", "edited", runs["edited"], step="pays", arguments=("eve",))
        for group in ("reset", "to an event", "fork", "edited"):
            for handle in runs[group]:
                newest = client.handle(trip, handle.workflow_id)
                assert (await newest.describe()).previous_run_id == handle.run_id
                await newest.signal(go, 1)
                who = "eve" if group == "edited" else handle.workflow_id
                assert await newest.result() == [f"paid {who} flight", 1, f"paid {who} dinner"]
        assert [paid[f"ann {group} flight"] for group in ("signal", "reset", "to an event", "fork")] == [1, 2, 2, 2]

    world.run(app, scenario)


@pytest.mark.contract("bulk")
def test_what_goes_on_as_a_new_run_does_so_once_and_only_an_ids_newest_run(world: World) -> None:
    async def scenario(client: Client) -> None:
        start = trip.options(id="ann")
        broken.add("ann dinner")
        first = await client.start(start, "ann")
        await first.signal(go, 1)
        with pytest.raises(Declined):
            await first.result()
        broken.clear()
        for _ in range(2):
            # Cut off and gone on with: what it made is the newest run now, and is not forked for it.
            (done,) = await client.batch("fork", Selection(workflow_type="trip"), step="pays", batch_id="b1")
            assert done.outcome == "done"
            await client.handle(trip, "ann").result()
        assert len([run async for run in client.runs()]) == 2
        assert paid["ann dinner"] == 2
        # The first still is a failed run, and its work is done.
        assert await client.batch("reset", Selection(workflow_type="trip")) == []
        assert await client.batch("reset", Selection("failed", "trip")) == []
        (again,) = await client.batch("reset", Selection("completed", "trip"), event=1)
        assert again.outcome == "done"
        await client.handle(trip, "ann").result()
        assert len([run async for run in client.runs()]) == 3

    world.run(app, scenario)


def test_engines_of_an_older_release_list_more_and_the_client_leaves_it_out(
    memory: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: Callable[..., Payload] = Queries._list

    def as_before(self: Queries, arguments: dict[str, Any]) -> Payload:
        page = json.loads(listed(self, {**arguments, "newest": False}).data)
        del page["newest"]
        return Payload(data=json.dumps(page).encode())

    monkeypatch.setattr(Queries, "_list", as_before)

    async def scenario(client: Client) -> None:
        broken.update({"ann dinner", "bob dinner"})
        for who in WHO:
            handle = await client.start(trip.options(id=who), who)
            await handle.signal(go, 1)
            with pytest.raises(Declined):
                await handle.result()
        broken.clear()
        trips = Selection(workflow_type="trip")
        assert len(await client.batch("reset", trips._replace(limit=1))) == 1
        assert len(await client.batch("reset", trips)) == 1, "the other has gone on"
        for who in WHO:
            await client.handle(trip, who).result()
        again = await client.batch("reset", trips)
        assert again == [], "what failed is not its id's newest run any more"
        assert (paid["ann dinner"], paid["bob dinner"]) == (2, 2)

    memory.run(app, scenario)


@pytest.mark.contract("bulk")
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(world: World) -> None:
    async def scenario(client: Client) -> None:
        new = await client.start(trip.options(id="new"), "ann")
        old = await client.start(trip_v1.options(id="old"), 5)  # type: ignore[arg-type]
        await until(first_paid, new, old)
        before = await stand(client)
        trips = Selection(workflow_type="trip")
        for dry_run in (True, False):
            with pytest.raises(DoesNotRoundTrip, match="who"):  # one run is pinned to a version with another type
                await client.batch("fork", trips, step="pays", arguments=("eve",), dry_run=dry_run)
        with pytest.raises(ConfigurationError, match="arguments are those of one workflow"):
            await client.batch("fork", Selection(), step="pays", arguments=("eve",))
        with pytest.raises(ConfigurationError, match="reset is for runs that are failed, not running; behind an event"):
            await client.batch("reset", Selection("running"))
        with pytest.raises(ConfigurationError, match=r"fork is for runs that are .*, not continued_as_new"):
            await client.batch("fork", Selection("continued_as_new"), step="pays")
        with pytest.raises(DoesNotRoundTrip):
            await client.batch("signal", trips, signal=go, value="seven")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="batch cancel takes no step"):
            await client.batch("cancel", trips, step="pays")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="batch fork needs step="):
            await client.batch("fork", trips)  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="a batch cannot 'purge': it can cancel, fork"):
            await client.batch("purge", trips)  # type: ignore[call-overload]
        assert await stand(client) == before

    world.run(app, scenario)
