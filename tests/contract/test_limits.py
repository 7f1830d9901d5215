"""The contract, "Every limit ends in a typed error"."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import (
    Client,
    CommandRejected,
    Orchestrator,
    RunParked,
    Signal,
    WorkflowFailed,
    approval,
    external_workflow,
    patched,
    set_summary,
    wait_event,
)
from orchestrator.errors import LimitExceeded
from tests.contract.world import World

app = Orchestrator("contract-limits")
said = app.signal("said", str)
LARGE = 1_200_000


@app.step
async def measures(text: str) -> int:
    return len(text)


@app.workflow
async def passes_on(size: int) -> int:
    return await measures("x" * size)


@app.workflow
async def hears() -> int:
    return len(await said.wait())


@pytest.mark.contract("limits")
def test_what_does_not_fit_is_named_and_nothing_of_it_is_committed(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(passes_on, LARGE)
        with pytest.raises(RunParked, match=r"(?s)measures.*1200\d\d\d|1,200,\d\d\d.*measures"):
            await handle.result()
        assert "StepScheduled" not in [event.type async for event in handle.history()]
        other = await client.start(hears)
        with pytest.raises(LimitExceeded, match=r"said|hears"):
            await other.signal(said, "x" * LARGE)
        await other.signal(said, "short")
        assert await other.result() == 5

    world.run(app, scenario)


@app.workflow
async def overdoes(what: str) -> str:
    """A step that fits, and beside it something whose name, or text, does not."""
    long = "n" * LARGE

    async def does() -> object:
        if what == "signal":
            external_workflow("nobody").signal(Signal(long, int), 1)
        elif what == "cancel":
            external_workflow(long).cancel()
        elif what == "child":
            return await hears.options(id=long)()
        elif what == "queue":
            return await measures.options(queue=long)("a")
        elif what == "event":
            return await wait_event(long)
        elif what == "approval":
            return await approval("deploy", to=["n" * 200] * 9_000)
        elif what == "summary":
            set_summary(long)
        elif what == "patch":
            patched(long)
        elif what == "bug":
            raise KeyError(long)
        return None

    await asyncio.gather(measures("fits"), does())
    if what == "failure":
        raise WorkflowFailed(long)
    return "done"


OVERDONE = ("signal", "cancel", "child", "queue", "event", "approval", "summary", "patch", "bug")


@pytest.mark.contract("limits", "bugs")
def test_a_name_or_a_text_of_code_that_does_not_fit_parks_its_run_and_leaves_no_half_of_a_turn(world: World) -> None:
    """The run says what it is and how large; its neighbours go on; an error's text is cut and not lost."""

    async def scenario(client: Client) -> None:
        for what in OVERDONE:
            handle = await client.start(overdoes, what)
            with pytest.raises(RunParked, match=r"KeyError: 'nnn.*characters" if what == "bug" else r"\d{7} bytes"):
                await handle.result()
            assert [event.type async for event in handle.history()] == ["RunStarted", "RunParked"], what
            assert len((await handle.describe()).why) < 30_000
            await handle.terminate()
        with pytest.raises(WorkflowFailed, match="nnn"):
            await client.execute(overdoes, "failure")
        assert await client.execute(overdoes, "nothing of it") == "done"

    world.run(app, scenario)


@pytest.mark.contract("limits")
def test_ids_that_are_too_long_end_in_a_typed_error(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(LimitExceeded, match=r"at most 1,024 characters, this one 2,000"):
            await client.using(command_id="c" * 2_000).start(hears)
        with pytest.raises(CommandRejected, match=r"at most 1,024 bytes in UTF-8, this one has 1,026") as refused:
            await client.start(hears.options(id="\u00e9" * 513))
        assert refused.value.code == "bad_request"
        handle = await client.using(command_id="c" * 1_024).start(hears.options(id="\u00e9" * 512))
        await handle.signal(said, "short")
        assert await handle.result() == 5

    world.run(app, scenario)
