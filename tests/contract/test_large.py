"""The contract, large values: whatever a user's value is part of, the log has its name, and code its bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator import (
    Client,
    CommandRejected,
    Orchestrator,
    RetryPolicy,
    RunParked,
    WorkflowNotFound,
    continue_as_new,
    external_workflow,
    query,
    step_info,
)
from orchestrator.errors import BlobMissing, LimitExceeded
from orchestrator.projections.audit import AuditOptions, verify
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.testing.replayer import Replayer
from tests.contract.world import CODEC, World
from tests.oracle.raw import RawRecord

app = Orchestrator("contract-large")
said = app.signal("said", str)
add = app.update("add", str, str)
ready = app.signal("ready", bool)
INLINE = 65_536
RECORD = 200_000
BEYOND = 1_200_000
"""Bytes that a record takes, and that none does."""


@app.step
async def marked(text: str) -> str:
    return text + "!"


@app.step(retry=RetryPolicy(initial_interval=timedelta(milliseconds=50), max_attempts=2))
async def goes_on(text: str) -> int:
    """Its second attempt gets what the first had so far."""
    info = step_info()
    if info.attempt == 1:
        info.heartbeat(text)
        raise RuntimeError("in the middle")
    return len(str(info.details))


@app.workflow
async def echoes(text: str) -> str:
    return await marked(text)


@app.workflow
async def listens() -> int:
    return len(await said.wait())


@app.workflow
async def everything(text: str, rounds: int) -> str:
    """Passes its argument on in every way there is."""
    texts: list[str] = []

    async def adds(more: str) -> str:
        texts.append(more)
        return "".join(texts)

    add.handle(adds)
    assert await echoes(text) == text + "!"
    assert await goes_on(text) == len(text)
    external_workflow(f"listener-{rounds}").signal(said, text)
    heard = await said.wait()
    await ready.wait()
    assert len(texts) == 1
    if rounds:
        continue_as_new(heard, rounds - 1)
    return text + heard


@app.entity
@dataclass
class Notebook:
    """Keeps a text."""

    text: str = ""

    @app.handler
    async def write(self, text: str) -> int:
        before = len(self.text)
        self.text = text
        return before

    @query
    def length(self) -> int:
        return len(self.text)


@app.workflow
async def summed(text: str) -> int:
    """Its argument is in a blob, its result is not."""
    await ready.wait()
    return len(await marked(text))


def texts(size: int) -> str:
    return "ä" * (size // 2)


async def raw(world: World) -> AsyncIterator[RawRecord]:
    assert world.ground is not None
    for records in await asyncio.to_thread(world.ground.records, "events"):
        for record in records:
            yield record


async def assert_named_alone(world: World, kinds: set[str]) -> None:
    """Nothing large is on the log, and blobs are named in events of these kinds."""
    named = set()
    async for record in raw(world):
        assert len(record.value) < INLINE, CODEC.decode_event(record.key, record.value).event
        body = CODEC.decode_event(record.key, record.value).event.body
        if any(getattr(value, "blob", None) for value in body):
            named.add(type(body).__name__)
    assert named == kinds


@pytest.mark.contract("large")
def test_every_value_of_a_user_may_be_larger_than_a_record(world: World) -> None:
    text = texts(BEYOND)

    async def scenario(client: Client) -> None:
        listeners = [await client.start(listens.options(id=f"listener-{number}")) for number in range(2)]
        first = await client.start(everything.options(id="all"), text, 1)
        handle = client.handle(everything, "all")
        for last in (False, True):
            await handle.signal(said, text)
            assert await handle.update(add, text) == text
            await world.restart()
            await handle.signal(ready, True)
            while not last and (now := await handle.describe()).run_id == first.run_id:
                assert now.status in ("running", "continued_as_new"), now.why
                await asyncio.sleep(0.02)
        assert [await listener.result() for listener in listeners] == [len(text)] * 2
        assert await handle.result() == text + text
        await assert_named_alone(
            world,
            {
                *("RunStarted", "StepScheduled", "StepCompleted", "StepHeartbeat", "SignalReceived", "SignalSent"),
                *("UpdateAccepted", "UpdateCompleted", "ChildScheduled", "ChildCompleted"),
                *("RunContinuedAsNew", "RunCompleted"),
            },
        )

    world.run(app, scenario, blobs="all")


@pytest.mark.contract("large")
def test_the_state_of_an_entity_may_be_large(world: World) -> None:
    text = texts(BEYOND)

    async def scenario(client: Client) -> None:
        book = client.entity(Notebook, "one")
        assert await book.call(Notebook.write, text) == 0
        await world.restart()
        assert await book.query(Notebook.length) == len(text)
        assert await book.call(Notebook.write, "short") == len(text)
        assert await book.query(Notebook.length) == 5
        await assert_named_alone(world, {"RunStarted", "EntityChanged", "EntityAdmitted"})

    world.run(app, scenario, blobs="all")


@pytest.mark.contract("large")
def test_what_fits_into_a_record_needs_no_directory_but_the_engines(world: World) -> None:
    """Callers send it, workers get it and callers read it in records; on the log it is a name."""
    text = texts(RECORD)

    async def scenario(client: Client) -> None:
        assert await client.execute(echoes, text) == text + "!"
        await assert_named_alone(world, {"RunStarted", "StepScheduled", "StepCompleted", "RunCompleted"})

    world.run(app, scenario, blobs="engines")


@pytest.mark.contract("large", "limits")
def test_without_a_directory_of_the_engines_a_caller_is_told_and_nothing_is_recorded(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(LimitExceeded, match=r"StartWorkflow of big is .*the engines' blob directory"):
            await client.start(echoes.options(id="big"), texts(BEYOND))
        with pytest.raises(WorkflowNotFound):
            await client.handle(echoes, "big").describe()
        client.calls._blobs = DirectoryBlobs(Path(world._scratch) / "elsewhere")
        with pytest.raises(CommandRejected, match=r"big, arguments of StartWorkflow: blob .* is not in") as refused:
            await client.start(echoes.options(id="big"), texts(BEYOND))
        assert refused.value.code == "blob"
        with pytest.raises(WorkflowNotFound):
            await client.handle(echoes, "big").describe()

    world.run(app, scenario, blobs="engines")


@pytest.mark.contract("large")
def test_a_lost_argument_parks_its_run_and_names_itself_until_it_is_back(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(summed, texts(BEYOND))
        assert world.blobs is not None
        (path,) = world.blobs.directory.glob("??/*")
        kept = path.read_bytes()
        path.unlink()
        await world.restart()
        await handle.signal(ready, True)
        with pytest.raises(RunParked, match=f"arguments of summed .*{path.name}.*workflow retry"):
            await handle.result()
        path.write_bytes(kept)
        await client.calls.retry(handle.workflow_id)
        assert await handle.result() == len(texts(BEYOND)) + 1

    world.run(app, scenario, blobs="all")


@pytest.mark.contract("large", "replayer", "audit-verify", "fork")
def test_replay_fork_and_audit_read_what_the_log_names(world: World, tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(summed, texts(RECORD))
        await handle.signal(ready, True)
        assert await handle.result() == len(texts(RECORD)) + 1
        export = tmp_path / "run.jsonl"
        export.write_text("\n".join([json.dumps(event.raw) async for event in handle.history()]))
        assert Replayer(app, world.blobs).replay(export) == 3
        with pytest.raises(BlobMissing, match="summed"):
            Replayer(app).replay(export)
        again = await handle.fork(step="marked")
        assert await again.result() == len(texts(RECORD)) + 1
        other = await again.fork(step="marked", arguments=(texts(BEYOND),))
        assert await other.result() == len(texts(BEYOND)) + 1
        records: dict[int, list[RawRecord]] = {}
        async for record in raw(world):
            records.setdefault(record.partition, []).append(record)
        logs = {number: [found] for number, found in records.items()}
        audit = verify(logs, CODEC, AuditOptions(blobs=world.blobs))
        assert audit.ok, audit.findings
        assert sum(part.blobs for part in audit.partitions.values()) >= 6

    world.run(app, scenario, blobs="all")
