"""The audit and the oracle agree about logs that the engine itself wrote, with commits that fail on the way."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable

import pytest

from orchestrator import Orchestrator, Saga, WorkflowFailed, patched
from orchestrator.codec.records import Codec
from orchestrator.core import commands as c
from orchestrator.core.apply.fold import Settings
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload, ReplyTo
from orchestrator.engine.run import Engine
from orchestrator.log.ports import Out
from orchestrator.projections.audit import AuditOptions, verify
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import state_hash
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics
from orchestrator.worker.threads import ThreadExecutor
from tests.oracle.oracle import Evidence, Expected, LoadModel, SentSignal, StatePosition, check, replies_of
from tests.oracle.raw import RawRecord

pytestmark = pytest.mark.slow

app = Orchestrator("audited")
go = app.signal("go", int)


@app.step
async def add(x: int) -> int:
    """One step."""
    return x + 1


@app.workflow
async def work(n: int) -> int:
    """`n` steps, a timer, a signal."""
    total = 0
    for x in range(n):
        total += await add(x)
    await asyncio.sleep(0.01)
    return total + await go.wait()


@app.entity
class Tally:
    """One count a key."""

    count: int = 0

    @app.handler
    async def add(self, x: int) -> int:
        """The count so far."""
        self.count += await add(x)
        return self.count


@app.workflow
async def tallies(key: str) -> int:
    """Two calls of an entity behind a patch, then undone."""
    async with Saga() as saga:
        first = await saga.do(Tally.add.on(key)(1), add)
        assert patched("second")
        await Tally.add.on(key)(2)
        raise WorkflowFailed(f"{first}")


class Load:
    """An application in memory and its callers."""

    PARTITIONS = 2

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        create_topics(self.cluster, app.name, self.PARTITIONS)
        self.codec = Codec()
        self.group = MemoryGroup(self.PARTITIONS)
        self.stores: dict[int, MemoryStore] = {}
        self.acked: set[str] = set()
        self._read = 0
        self._replies: dict[str, Reply] = {}

    def engine(self) -> Engine:
        """A process of the application."""
        return Engine(
            MemoryLog(self.cluster, app.name, self.group),
            app.registry,
            lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed), report),
            lambda number, codec: self.stores.setdefault(number, MemoryStore(codec)),
        )

    def send(self, workflow: str, body: c.TopicCommand) -> str:
        """Put a command on its topic; its id."""
        command = c.Command(uuid.uuid4().hex, workflow, body, reply_to=ReplyTo(f"{app.name}.replies", 0))
        value = self.codec.encode_command(command)
        assert self.cluster.send(Out(f"{app.name}.commands", -1, workflow.encode(), value)) == ""
        return command.id

    def reply(self, command_id: str, wait_s: float) -> Reply | None:
        """Wait for an answer; None: none came."""
        log = self.cluster.partition(f"{app.name}.replies", 0)

        def arrived() -> bool:
            wires, self._read = log.read(self._read, 100_000)
            self._replies.update((reply.command_id, reply) for reply in (self.codec.decode(w.value) for w in wires))
            return command_id in self._replies

        with self.cluster.changed:
            self.cluster.changed.wait_for(arrived, wait_s)
        return self._replies.get(command_id)

    def accepted(self, workflow: str, body: c.TopicCommand) -> str:
        """Send a command that must be accepted."""
        command_id = self.send(workflow, body)
        answer = self.reply(command_id, 60)
        assert answer is not None, "no reply in a minute"
        assert answer.outcome == "accepted", answer
        self.acked.add(command_id)
        return command_id

    def result(self, workflow: str) -> bytes:
        """The run's result. A claim drops the questions that were waiting: their callers ask again."""
        for _ in range(60):
            answer = self.reply(self.send(workflow, c.QueryWorkflow("result", wait_ms=1_000)), 1.5)
            if answer is not None and answer.outcome == "answered":
                return answer.result.data
        raise AssertionError(f"{workflow} has no result: {answer}")

    def records(self, kind: str, committed: bool = True) -> dict[int, list[RawRecord]]:
        """A topic as a raw reader sees it."""
        parts = self.cluster.topics[f"{app.name}.{kind}"].partitions
        return {n: [RawRecord(*w) for w in log.read(0, 1 << 30, committed)[0]] for n, log in enumerate(parts)}


def failing(every: int) -> Callable[[str], str]:
    """Every n-th commit fails, in turn before and after it took effect."""
    numbers, ends = itertools.count(1), itertools.cycle(("unknown", "lost"))
    return lambda name: next(ends) if every and next(numbers) % every == 0 else ""


@pytest.mark.parametrize("every", [0, 7])
@pytest.mark.contract("entity")
def test_a_log_of_entities_sagas_and_patches_is_whole(every: int) -> None:
    load = Load()
    load.cluster.on_commit = failing(every)
    engine = load.engine()
    engine.start()
    calls = [c.StartWorkflow("Tally.add", Payload(data=b'{"x":%d}' % n), conflict="queue") for n in range(8)]
    for call in calls:
        load.accepted("Tally/one", call)
        load.send("Tally/two", call)
    for number in range(4):
        load.accepted(f"t{number}", c.StartWorkflow("tallies", Payload(data=b'{"key":"one"}')))
    for number in range(4):
        load.result(f"t{number}")
    load.accepted("Tally/one", c.StartWorkflow("Tally.add", Payload(data=b'{"x":-1}'), conflict="queue"))
    counted = load.result("Tally/one")
    load.result("Tally/two")
    load.cluster.on_commit = lambda name: ""
    engine.stop()
    assert int(counted) == sum(n + 1 for n in range(8)) + 4 * (2 + 3)
    audit = verify(
        {n: [log.read(0, 1 << 30)[0]] for n, log in enumerate(load.cluster.topics[f"{app.name}.events"].partitions)},
        load.codec,
        AuditOptions(state_hash=lambda n: state_hash(load.stores[n]), settings=Settings(app.name)),
    )
    assert audit.ok, audit.findings
    assert {part.state for part in audit.partitions.values()} == {"equal"}


@pytest.mark.parametrize("every", [0, 11])
def test_the_engine_s_log_is_whole(every: int) -> None:
    load = Load()
    load.cluster.on_commit = failing(every)
    engine = load.engine()
    engine.start()
    expected = {}
    for number in range(6):
        workflow = f"w{number}"
        load.accepted(workflow, c.StartWorkflow("work", work.code.signature.bind((number + 2,), {})))
        signal = load.accepted(workflow, c.SignalWorkflow("go", Payload(data=b"1000")))
        total = sum(range(1, number + 3)) + 1000
        expected[workflow] = Expected(total, number + 2, "completed", (SentSignal(signal),))
        assert int(load.result(workflow)) == total
    load.cluster.on_commit = lambda name: ""
    engine.stop()

    audit = verify(
        {n: [log.read(0, 1 << 30)[0]] for n, log in enumerate(load.cluster.topics[f"{app.name}.events"].partitions)},
        load.codec,
        AuditOptions(state_hash=lambda n: state_hash(load.stores[n]), settings=Settings(app.name)),
    )
    assert audit.ok, audit.findings
    assert {part.state for part in audit.partitions.values()} == {"equal"}
    heads = {n: StatePosition(p.head_offset + 1, p.head_hash) for n, p in audit.partitions.items() if p.batches}
    verdict = check(
        load.records("events"),
        load.records("events", committed=False),
        LoadModel(expected, load.acked),
        Evidence(load.records("commands"), replies_of(load.records("replies")[0]), state=heads),
    )
    assert not verdict.anomalies, verdict.text()
    assert verdict.totals["completed"] == 6
    assert verdict.totals["events"] == sum(part.events for part in audit.partitions.values())
    if every:
        assert verdict.totals["claims"] > load.PARTITIONS, "no commit failed: the test shows nothing"
