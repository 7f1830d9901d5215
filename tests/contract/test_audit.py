"""Proving it afterwards: what was, rebuilt from the topics alone, and code run against what is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core.apply.fold import Settings
from orchestrator.core.events import BatchFooter
from orchestrator.errors import Divergence, LogGap, WorkflowNotFound
from orchestrator.log.config import LogConfig
from orchestrator.log.ports import Wire
from orchestrator.log.reader import read_partition
from orchestrator.projections.rebuild import END, Moment, Rebuilt, rebuild
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import state_hash
from orchestrator.testing.replayer import Replayer
from tests.contract.world import KafkaGround, MemoryGround, World

CODEC = Codec()

app = Orchestrator("audits")
go = app.signal("go", int)


ran: list[int] = []
"""What steps did, in this process."""


@app.step(isolation="thread")
async def doubled(x: int) -> int:
    ran.append(x)
    return 2 * x


@app.workflow
async def work(x: int) -> int:
    total = await doubled(x)
    total += await go.wait()
    return await doubled(total)


@app.workflow
async def measures(text: str) -> int:
    """Its argument may be a large value."""
    return await doubled(len(text))


other = Orchestrator("audits")
other.signal("go", int)


@other.step(name="doubled")
async def doubled_elsewhere(x: int) -> int:
    return 2 * x


@other.workflow(name="work")
async def changed_work(x: int) -> int:
    total = await doubled_elsewhere(x)
    return await doubled_elsewhere(total + 1)


def wires_of(world: World, app: Orchestrator) -> dict[int, list[Wire]]:
    """The events topic, partition by partition, as an auditor reads it."""
    ground = world.ground
    numbers = range(world.mode.partitions)
    if isinstance(ground, MemoryGround):
        logs = ground.cluster.topics[f"{app.name}.events"].partitions
        return {number: logs[number].read(0, 1 << 30)[0] for number in numbers}
    assert isinstance(ground, KafkaGround)
    config: LogConfig = ground.config
    return {
        number: [wire for wires in read_partition(config, f"{app.name}.events", number) for wire in wires]
        for number in numbers
    }


def folded(app: Orchestrator, number: int, wires: Sequence[Wire], until: Moment = END) -> Rebuilt:
    return rebuild(number, [wires], CODEC, (MemoryStore(CODEC), Settings(app.name)), until)


def footers(wires: Sequence[Wire]) -> Iterator[tuple[int, int]]:
    """(offset, the log's clock) of every footer."""
    for wire in wires:
        body = CODEC.decode_event(wire.key, wire.value).event.body
        if isinstance(body, BatchFooter):
            yield wire.offset, body.now_ms


@pytest.mark.contract("audit-replay", "audit-code", "audit-verify")
def test_state_is_rebuilt_from_the_topic_alone(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(work.options(id="one"), 3)
        await handle.signal(go, 4)
        assert await handle.result() == 20
        described = await client.calls.describe("one")
        events = [event.raw async for event in client.calls.history("one")]

        await world.end()
        found = wires_of(world, app)
        lengths = {number: len(wires) for number, wires in found.items()}
        for number, wires in found.items():
            made = folded(app, number, wires)
            if not list(made.runs()):
                continue
            run_id, row = made.run("one")
            assert (run_id, row.status) == (described.run_id, "completed")
            assert made.events_of("one", run_id) == events
            live = [state_hash(stores[number]) for stores in world.stores if number in stores]
            assert not live or state_hash(made.store) in live
            before = list(ran)
            assert before
            assert Replayer(app).replay(made.history("one", run_id), row.turn) >= 3
            assert ran == before, "the code ran again, and its steps did not"
            assert {number: len(wires) for number, wires in wires_of(world, app).items()} == lengths
            return
        pytest.fail("no partition has the run")

    world.run(app, scenario)


@pytest.mark.contract("audit-replay")
def test_a_moment_in_time_ends_at_a_batch(world: World) -> None:
    """At every offset and every time the log's clock had: a prefix, equal for equal batches, and code agrees."""

    async def scenario(client: Client) -> None:
        handle = await client.start(work.options(id="one"), 3)
        await handle.signal(go, 4)
        assert await handle.result() == 20
        await world.end()
        (number, wires) = next(
            (number, wires)
            for number, wires in wires_of(world, app).items()
            if any(wire.key == b"one" for wire in wires)
        )
        whole = folded(app, number, wires)
        ends = list(footers(wires))
        hashes: dict[int, bytes] = {}
        seen = 0
        for wire in wires:
            made = folded(app, number, wires, Moment(offset=wire.offset))
            assert made.head_offset == max((end for end, _ in ends if end <= wire.offset), default=-1)
            if made.batches:
                hashes[made.head_offset] = state_hash(made.store)
            try:
                run_id, row = made.run("one")
            except WorkflowNotFound:
                assert not seen
                continue
            assert row.seq >= seen
            seen = row.seq
            Replayer(app).replay(made.history("one", run_id), row.turn)
        assert seen == whole.run("one")[1].seq
        assert hashes[whole.head_offset] == state_hash(whole.store)
        for end, now_ms in ends:
            made = folded(app, number, wires, Moment(time_ms=now_ms))
            assert made.head_offset == max(offset for offset, at in ends if at <= now_ms)
            assert made.head_offset >= end

    world.run(app, scenario)


@pytest.mark.contract("audit-code")
def test_code_that_no_longer_does_it_is_told_where(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(work.options(id="one"), 3)
        await handle.signal(go, 4)
        assert await handle.result() == 20
        await world.end()
        for number, wires in wires_of(world, app).items():
            made = folded(app, number, wires)
            if not list(made.runs()):
                continue
            run_id, row = made.run("one")
            with pytest.raises(Divergence, match=r"workflow one, event \d+ \(StepCompleted\)"):
                Replayer(other).replay(made.history("one", run_id), row.turn)

    world.run(app, scenario)


def test_a_changed_log_gives_no_state(memory: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(work.options(id="one"), 3)
        await handle.signal(go, 4)
        assert await handle.result() == 20
        await memory.end()
        for number, wires in wires_of(memory, app).items():
            at = next((at for at, wire in enumerate(wires) if wire.key == b"one"), -1)
            if at < 0:
                continue
            forged = [*wires[:at], *wires[at + 1 :]]
            with pytest.raises(LogGap, match=rf"audits-.*events/{number} offset \d+"):
                folded(app, number, forged)
            bad = [*wires[:at], wires[at]._replace(value=b"\x00"), *wires[at + 1 :]]
            with pytest.raises(LogGap, match=f"offset {wires[at].offset}"):
                folded(app, number, bad)

    memory.run(app, scenario)
