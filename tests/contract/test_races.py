"""The named races of the contract, each forced: what meets what is made so, whatever the machine does meanwhile.

Each test has an application of its own, whose engines are in this process, where they can be held.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import (
    Client,
    Handle,
    Orchestrator,
    RunCancelled,
    RunClosed,
    WorkflowAlreadyRunning,
    approval,
    continue_as_new,
    step_info,
)
from orchestrator.core import commands as c, events as e
from orchestrator.core.ids import step_id, step_token
from orchestrator.core.rows import TIMERS
from orchestrator.core.values import Payload
from orchestrator.errors import CommandRejected
from orchestrator.sdk.execution import StepReport
from orchestrator.worker.threads import ThreadExecutor
from tests.contract.forced import (
    POINTS,
    Gates,
    Halted,
    KeptBack,
    apart,
    kinds,
    met_at_last,
    of_kind,
    owned_store,
    until,
)
from tests.contract.world import World

pytestmark = pytest.mark.usefixtures("held")

RETENTION_MS = 300


class Races:
    """The application of one test."""

    def __init__(self) -> None:
        app = self.app = Orchestrator("contract-races")
        gates = self.gates = Gates()
        self.go = app.signal("go", int)
        self.add, self.hold = app.update("add", int, int), app.update("hold", int, int)
        self.payment = app.event("payment", dict[str, str])

        @app.step(isolation="thread")
        def stand(name: str) -> str:
            gates.wait(name)
            return name

        self.stand = stand
        self._signals()
        self._children()
        self._time()
        self._answers()
        self._updates()

    def _signals(self) -> None:
        app, go, stand = self.app, self.go, self.stand

        @app.workflow
        async def takes(count: int) -> int:
            """Ends with its last signal."""
            return sum([await go.wait() for _ in range(count)])

        @app.workflow
        async def takes_late(count: int) -> int:
            """Nobody waits for a signal before its step has ended."""
            await stand("late")
            return sum([await go.wait() for _ in range(count)])

        self.takes, self.takes_late = takes, takes_late

    def _children(self) -> None:
        app, go, stand = self.app, self.go, self.stand

        @app.workflow
        async def child(name: str) -> str:
            return await stand(name)

        @app.workflow
        async def parent(name: str) -> str:
            """Takes its child's result, or its own cancellation, whichever comes first; ends when told to."""
            try:
                found = await child.options(id=name, close_policy="abandon")(name)
            except asyncio.CancelledError:
                await asyncio.shield(asyncio.ensure_future(go.wait()))
                return "cancelled"
            await go.wait()
            return found

        self.parent = parent

    def _time(self) -> None:
        app, go, stand = self.app, self.go, self.stand

        @app.workflow
        async def signal_or_time(seconds: float) -> list[Any]:
            try:
                async with asyncio.timeout(seconds):
                    first = f"signal {await go.wait()}"
            except TimeoutError:
                first = "time"
            return [first, await go.wait()]

        @app.workflow
        async def step_or_time(name: str, seconds: float) -> list[Any]:
            """The time that the step has begins with a signal, when it is under way already."""
            step = asyncio.ensure_future(stand(name))
            await go.wait()
            try:
                async with asyncio.timeout(seconds):
                    first = await step
            except TimeoutError:
                first = "time"
            return [first, await go.wait()]

        @app.workflow
        async def sleeps(seconds: float) -> float:
            await asyncio.sleep(seconds)
            return seconds

        self.signal_or_time, self.step_or_time, self.sleeps = signal_or_time, step_or_time, sleeps

    def _answers(self) -> None:
        app, payment, stand = self.app, self.payment, self.stand

        @app.workflow
        async def deploys(version: int) -> str:
            answer = await approval("deploy", {"version": version})
            return f"{answer.outcome} by {answer.by}"

        @app.workflow
        async def waits_for(order: str) -> str:
            """Waits for its event as soon as its step has ended."""
            await stand(order)
            return (await payment.wait(match={"order": order}))["order"]

        self.deploys, self.waits_for = deploys, waits_for

    def _updates(self) -> None:
        app, go, add, hold = self.app, self.go, self.add, self.hold

        @app.workflow
        async def sums() -> int:
            """Carries out updates until its signal; by a 2 it goes on as a new run."""
            total = 0

            def adds(value: int) -> int:
                nonlocal total
                total += value
                return total

            async def holds(value: int) -> int:
                await asyncio.sleep(600)
                return value

            add.handle(adds)
            hold.handle(holds)
            if await go.wait() == 2:
                continue_as_new()
            return total

        self.sums = sums


@pytest.fixture
def races() -> Races:
    return Races()


# -- signals and starts ------------------------------------------------------------------------------------------------


@pytest.mark.contract("signal-durable", "signal-closed")
def test_a_signal_that_arrives_while_the_completing_turn_is_in_flight(world: World, races: Races) -> None:
    """Whether the completing batch commits, is lost, or is committed unseen: the second one is refused, on record."""

    async def scenario(client: Client) -> None:
        for how in POINTS:
            handle = await client.start(races.takes.options(id=how), 1)
            async with Halted(world, how, e.RunCompleted, how) as halted:
                first = asyncio.ensure_future(handle.signal(races.go, 1))
                await halted.reached()
                (second,) = await halted.then(
                    client.using(command_id=f"{how}/2").handle(races.takes, how).signal(races.go, 10)
                )
                halted.go_on()
            await first
            (refused,) = await asyncio.gather(second, return_exceptions=True)
            assert await handle.result() == 1
            found = kinds(world, how)
            if refused is None:
                # Another engine took over meanwhile, and took the run's first turn with care: behind both signals.
                assert sorted(found[1:]) == ["RunCompleted", "SignalReceived", "SignalReceived", "TurnAttempted"]
                continue
            assert isinstance(refused, RunClosed)
            assert (found.count("SignalReceived"), found.count("RunCompleted")) == (1, 1)
            assert found.index("CommandRejected") > found.index("RunCompleted")

    world.run(races.app, scenario)


@pytest.mark.contract("signal-kept", "signal-order", "signal-closed")
def test_a_signal_before_the_start_before_its_wait_and_after_the_close_in_one_batch(world: World, races: Races) -> None:
    async def scenario(client: Client) -> None:
        handle = client.handle(races.takes_late, "w")
        async with KeptBack(world, "w") as kept:
            said = await kept.then(
                "w",
                handle.signal(races.go, 100),
                client.start(races.takes_late.options(id="w"), 2),
                handle.signal(races.go, 10),
                handle.signal(races.go, 1),
            )
        with pytest.raises(CommandRejected, match="no such workflow"):
            await said[0]
        await asyncio.gather(*said[1:])
        (refused, _), (started, _), *taken = [
            found for kind in (e.CommandRejected, e.RunStarted, e.SignalReceived) for found in of_kind(world, "w", kind)
        ]
        assert {refused, *(batch for batch, _ in taken)} == {started}, "they were decided in one batch"
        await races.gates.stands("late")
        races.gates["late"].set()
        assert await handle.result() == 11
        # The last that it takes and one more, in one batch.
        ending = await client.start(races.takes.options(id="w"), 1)
        async with KeptBack(world, "w") as kept:
            last, more = await kept.then("w", ending.signal(races.go, 1), ending.signal(races.go, 2))
        await last
        with pytest.raises(RunClosed):
            await more
        assert await ending.result() == 1
        assert of_kind(world, "w", e.RunCompleted)[-1][0] == of_kind(world, "w", e.CommandRejected)[-1][0]

    world.run(races.app, scenario)


@pytest.mark.contract("start-once", "start-conflict")
def test_a_duplicate_start_during_the_first_commit(world: World, races: Races) -> None:
    """The duplicate and somebody else's start of the same id come while the first start's batch is under way."""

    async def scenario(client: Client) -> None:
        for how in POINTS:
            mine, one = client.using(command_id=f"{how}/mine"), races.takes.options(id=how)
            theirs = client.using(command_id=f"{how}/theirs")
            async with Halted(world, how, e.RunStarted, how) as halted:
                first = asyncio.ensure_future(mine.start(one, 1))
                await halted.reached()
                again, other = (asyncio.ensure_future(who.start(one, 1)) for who in (mine, theirs))
                await halted.holds(f"{how}/mine")
                await halted.holds(f"{how}/theirs")
                halted.go_on()
            assert (await first).run_id == (await again).run_id
            with pytest.raises(WorkflowAlreadyRunning, match=how):
                await other
            assert kinds(world, how).count("RunStarted") == 1
            await (await first).signal(races.go, 5)
            assert await (await first).result() == 5

    world.run(races.app, scenario)


# -- children ----------------------------------------------------------------------------------------------------------


@pytest.mark.contract("cancel", "child-outcome")
def test_a_cancel_together_with_a_childs_completion(world: World, races: Races) -> None:
    """In one batch of the parent's partition, in either order: what was recorded first counts, in replay too."""

    async def meet(client: Client, first: str) -> None:
        name = apart(world, f"child-of-{first}", first)
        handle = await client.start(races.parent.options(id=first), name)
        await races.gates.stands(name)
        await until(lambda: "ChildStarted" in kinds(world, first))

        async def outcome() -> None:
            races.gates[name].set()

        async with KeptBack(world, first) as kept:
            both = [outcome(), handle.cancel()]
            await kept.then(first, *(both if first == "outcome" else reversed(both)))
        await until(lambda: "CancelRequested" in kinds(world, first))
        if first == "outcome":
            with pytest.raises(RunCancelled):
                await handle.result()
        else:
            await world.restart()
            await handle.signal(races.go, 1)
            assert await handle.result() == "cancelled"
        (cancelled, _) = of_kind(world, first, e.CancelRequested)[0]
        assert [batch for batch, _ in of_kind(world, first, e.ChildCompleted)] == [cancelled], "in one batch, once"
        found = kinds(world, first)
        assert (found.index("ChildCompleted") < found.index("CancelRequested")) == (first == "outcome")
        assert await client.handle(races.parent, name).result() == name

    async def scenario(client: Client) -> None:
        await meet(client, "outcome")
        await meet(client, "cancel")

    world.run(races.app, scenario)


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.contract("time-race", "time-sleep")
def test_a_timer_and_the_signal_that_would_cancel_it_in_one_batch(world: World, races: Races) -> None:
    """The batch's order is history's, and every replay's: time first, then the signal, which is kept."""

    async def scenario(client: Client) -> None:
        async def meet(name: str) -> bool:
            handle = client.handle(races.signal_or_time, name)
            async with Halted(world, name, e.TimerSet) as halted:
                start = asyncio.ensure_future(client.start(races.signal_or_time.options(id=name), 0.2))
                await halted.reached()
                await halted.then(handle.signal(races.go, 7))
                await halted.due(e.TimerSet, lambda event: event.body.due_at_ms)
                halted.go_on()
            await start
            assert await handle.result() == ["time", 7]
            assert "TimerCancelled" not in kinds(world, name)
            return of_kind(world, name, e.TimerFired)[0][0] == of_kind(world, name, e.SignalReceived)[0][0]

        await met_at_last(world, meet)

    world.run(races.app, scenario)


@pytest.mark.contract("time-cancelled")
def test_a_timer_and_its_cancel_in_one_batch(world: World, races: Races) -> None:
    """A step of this process ends in the batch in which its time is over: the outcome is decided first, its turn
    cancels the timer, and it never fires. A worker's outcome is a command, decided after time."""

    async def scenario(client: Client) -> None:
        handle = await client.start(races.step_or_time.options(id="w"), "step", 0.2)
        await races.gates.stands("step")
        async with Halted(world, "w", e.TimerSet) as halted:
            begins = asyncio.ensure_future(handle.signal(races.go, 1))
            await halted.reached()
            races.gates["step"].set()
            local = await halted.reported()
            await halted.due(e.TimerSet, lambda event: event.body.due_at_ms)
            halted.go_on()
        await begins
        await world.restart()
        await handle.signal(races.go, 2)
        assert await handle.result() == ["step" if local else "time", 2]
        found = kinds(world, "w")
        if not local:
            assert (found.count("TimerFired"), found.count("StepCompleted")) == (1, 0)
            return
        assert (found.count("TimerFired"), found.count("TimerCancelled")) == (0, 1)
        (ended, _), (withdrawn, at) = of_kind(world, "w", e.StepCompleted)[0], of_kind(world, "w", e.TimerCancelled)[0]
        assert ended == withdrawn
        assert at.recorded_at_ms >= of_kind(world, "w", e.TimerSet)[0][1].body.due_at_ms, "it was due in that batch"

    world.run(races.app, scenario)


@pytest.mark.contract("start-reuse", "time-cancelled")
def test_an_id_is_used_again_in_the_batch_that_purges_its_old_run(world: World, races: Races) -> None:
    """The old run left a sleep that was pending, and its purge is due: neither touches the run that has the id now."""

    async def scenario(client: Client) -> None:
        async def meet(name: str) -> bool:
            old = await client.start(races.sleeps.options(id=name), 3600)
            await until(lambda: "TimerSet" in kinds(world, name))
            async with Halted(world, name, e.RunTerminated) as halted:
                end = asyncio.ensure_future(old.terminate())
                await halted.reached()
                (start,) = await halted.then(client.start(races.sleeps.options(id=name), 3 * RETENTION_MS / 1000))
                await halted.due(e.RunTerminated, lambda event: event.recorded_at_ms + RETENTION_MS)
                halted.go_on()
            await end
            new: Handle[float] = await start
            await until(lambda: "RunCompleted" in kinds(world, name))
            events = [event for _, event in of_kind(world, name, object)]
            story = [type(event.body).__name__ for event in events if event.run_id == new.run_id]
            assert story[:4] == ["RunStarted", "TimerSet", "TimerFired", "RunCompleted"]
            fired = of_kind(world, name, e.TimerFired)
            assert len(fired) == 1
            assert fired[0][1].recorded_at_ms >= of_kind(world, name, e.TimerSet)[1][1].body.due_at_ms
            # Nothing of either run is left to fire once the second is purged too.
            await until(lambda: kinds(world, name).count("RunPurged") == 2)
            await until(
                lambda: (
                    (store := owned_store(world, name)) is not None
                    and not any(row.workflow_id == name for _, row in store.scan(TIMERS, (1,)))
                )
            )
            return of_kind(world, name, e.RunPurged)[0][0] == of_kind(world, name, e.RunStarted)[1][0]

        await met_at_last(world, meet)

    world.run(races.app, scenario, retention_ms=RETENTION_MS)


@pytest.mark.contract("start-reuse")
def test_an_id_is_used_again_while_the_purge_of_its_old_run_is_pending(world: World, races: Races) -> None:
    async def scenario(client: Client) -> None:
        old = await client.start(races.takes.options(id="w"), 1)
        async with KeptBack(world, "w") as kept:
            _, start = await kept.then("w", old.terminate(), client.start(races.takes.options(id="w"), 1))
        new: Handle[int] = await start
        await until(lambda: "RunPurged" in kinds(world, "w"))
        with pytest.raises(CommandRejected, match="has no run"):
            await client.handle(races.takes, "w", old.run_id).describe()
        assert (await new.describe()).status == "running"
        await new.signal(races.go, 3)
        await until(lambda: "RunCompleted" in kinds(world, "w"))

    world.run(races.app, scenario, retention_ms=RETENTION_MS)


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.contract("step-timeouts", "step-outside")
def test_a_late_result_after_a_time_out_retried_the_step(
    world: World, races: Races, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the attempt itself, which does not hear its cancellation, and from a worker that was away: it changes
    nothing while the next attempt runs, nor after the step has its result."""
    gates, heard = races.gates, list[str]()
    conclude = ThreadExecutor._conclude

    def concluded(executor: ThreadExecutor, report: StepReport) -> None:
        conclude(executor, report)
        heard.append(report.body.token)

    monkeypatch.setattr(ThreadExecutor, "_conclude", concluded)

    @races.app.step(isolation="thread", start_to_close=timedelta(milliseconds=150))
    def deaf() -> str:
        """Its first attempt outlives its time; those after it end at once when they may."""
        attempt = step_info().attempt
        gates.wait("first" if attempt == 1 else "others")
        return f"attempt {attempt}"

    @races.app.workflow
    async def calls_the_deaf() -> str:
        return await deaf()

    async def scenario(client: Client) -> None:
        handle = await client.start(calls_the_deaf.options(id="w"))
        await gates.stands("first")
        await gates.stands("others")
        (scheduled,) = [event.body for _, event in of_kind(world, "w", e.StepScheduled)]
        step = step_id(scheduled.path, scheduled.n)
        token = step_token(handle.run_id, step, 1)
        late = c.ReportStep(handle.run_id, step, 1, token, Payload(data=b'"too late"'))
        with pytest.raises(CommandRejected, match="is the current one; this report changes nothing"):
            await client.calls.caller.command("w", late)
        gates["first"].set()
        await until(lambda: token in heard, "the first attempt's own outcome")
        gates["others"].set()
        result = await handle.result()
        (completed,) = [event.body for _, event in of_kind(world, "w", e.StepCompleted)]
        assert completed.attempt > 1
        assert result == f"attempt {completed.attempt}"
        with pytest.raises(CommandRejected, match="it has its result"):
            await client.calls.caller.command("w", late)
        assert kinds(world, "w").count("CommandRejected") >= 2

    world.run(races.app, scenario)


# -- approvals and events ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.contract("approval-history")
def test_an_approval_accepted_while_the_partition_changes_owner(world: World, races: Races) -> None:
    """Its owner dies between the decision and its commit, or between the commit and the answer to whoever approved."""

    async def decide(client: Client, how: str) -> None:
        handle = await client.start(races.deploys.options(id=how), 7)
        while not (found := [one async for one in client.approvals.list()]):
            await asyncio.sleep(0.01)
        async with Halted(world, how, e.ApprovalDecided, how) as halted:
            said = asyncio.ensure_future(client.approvals.approve(found[0].id, found[0].digest, by="eva"))
            batch = await halted.reached()
            await halted.die()
        assert (await said).outcome == "accepted"
        assert await handle.result() == "approved by eva"
        ((decided, _),) = of_kind(world, how, e.ApprovalDecided)
        assert (decided == batch.batch_id) == (how == "unproven")

    async def scenario(client: Client) -> None:
        await decide(client, "lost")
        await decide(client, "unproven")

    world.run(races.app, scenario)


@pytest.mark.contract("event-look-back")
def test_an_event_and_the_wait_for_it_in_one_batch(world: World, races: Races) -> None:
    """Of the same millisecond by the topic's clock, in either order: the run gets it, once."""
    topic = "event/payment"

    async def meet(client: Client, first: str) -> None:
        order = apart(world, first, topic)
        handle = await client.start(races.waits_for.options(id=order), order)
        await races.gates.stands(order)

        async def wait() -> None:
            races.gates[order].set()

        async with KeptBack(world, topic) as kept:
            both = [client.send_event(races.payment, {"order": order}), wait()]
            await kept.then(topic, *(both if first == "event" else reversed(both)))
        assert await handle.result() == order
        (sent, at), (asked, then) = (of_kind(world, topic, kind)[-1] for kind in (e.EventSent, e.EventSubscribed))
        assert (sent, at.recorded_at_ms) == (asked, then.recorded_at_ms)
        assert kinds(world, order).count("EventDelivered") == 1

    async def scenario(client: Client) -> None:
        await meet(client, "event")
        await meet(client, "wait")

    world.run(races.app, scenario)


# -- updates -----------------------------------------------------------------------------------------------------------


@pytest.mark.contract("update-close")
def test_updates_before_and_behind_the_end_of_their_run_in_one_batch(world: World, races: Races) -> None:
    async def meet(client: Client, end: str) -> None:
        handle = await client.start(races.sums.options(id=end))
        newest = client.handle(races.sums, end)
        async with KeptBack(world, end) as kept:
            before, held, ends, behind, to_the_newest = await kept.then(
                end,
                handle.update(races.add, 1),
                handle.update(races.hold, 1),
                handle.terminate() if end == "terminated" else handle.signal(races.go, 2 if end == "continues" else 1),
                handle.update(races.add, 10),
                newest.update(races.add, 100),
            )
        await ends
        assert await before == 1
        with pytest.raises(RunClosed, match="before the handler did"):
            await held
        with pytest.raises(RunClosed):
            await behind
        if end == "continues":
            assert await to_the_newest == 100
            await newest.terminate()
        else:
            with pytest.raises(RunClosed):
                await to_the_newest
        closing = {"completes": e.RunCompleted, "terminated": e.RunTerminated, "continues": e.RunContinuedAsNew}[end]
        assert of_kind(world, end, closing)[0][0] == of_kind(world, end, e.UpdateAccepted)[0][0], "in one batch"

    async def scenario(client: Client) -> None:
        for end in ("completes", "terminated", "continues"):
            await meet(client, end)

    world.run(races.app, scenario)


@pytest.mark.contract("update-close", "start-timeouts")
def test_an_update_in_the_batch_in_which_its_run_times_out(world: World, races: Races) -> None:
    async def scenario(client: Client) -> None:
        async def meet(name: str) -> bool:
            timed = races.sums.options(id=name, run_timeout=timedelta(milliseconds=200))
            async with Halted(world, name, e.RunStarted) as halted:
                start = asyncio.ensure_future(client.start(timed))
                await halted.reached()
                (update,) = await halted.then(client.handle(races.sums, name).update(races.add, 1))
                await halted.due(e.RunStarted, lambda event: event.recorded_at_ms + 200)
                halted.go_on()
            await start
            with pytest.raises(RunClosed):
                await update
            assert "UpdateAccepted" not in kinds(world, name)
            ((failed, _),), ((refused, _),) = (of_kind(world, name, kind) for kind in (e.RunFailed, e.CommandRejected))
            return failed == refused

        await met_at_last(world, meet)

    world.run(races.app, scenario)
