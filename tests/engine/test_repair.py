"""Commands that were deleted before they were read: the partition stands still, and a person's word lets it go on."""

from __future__ import annotations

import json
import time

from orchestrator.core import commands as c
from orchestrator.core.events import InputLost
from orchestrator.core.values import Actor, Payload
from orchestrator.engine.partition import State
from orchestrator.engine.repair import Acceptance, Repairer
from orchestrator.log.partitioner import partition_of
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog
from tests.projections.test_audit_engine import Load, app, work


def test_lost_input_parks_until_it_is_accepted() -> None:
    load = Load()
    number = partition_of(b"w", load.PARTITIONS)
    engine = load.engine()
    engine.start()
    load.accepted("w", c.StartWorkflow("work", work.code.signature.bind((2,), {})))
    why = ""
    while "signal" not in why:
        answer = load.reply(load.send("w", c.QueryWorkflow("describe")), 10)
        assert answer is not None
        why = json.loads(answer.result.data)["why"]
    engine.stop()
    # While no engine runs, two signals arrive and the broker deletes the first.
    for value in (b"1", b"2"):
        load.send("w", c.SignalWorkflow("go", Payload(data=value)))
    commands = load.cluster.partition(f"{app.name}.commands", number)
    gone = commands.end - 1
    del commands.entries[: gone - commands.start]
    commands.start = gone

    engine = load.engine()
    engine.start()
    deadline = time.monotonic() + 10
    while number not in engine.partitions and time.monotonic() < deadline:
        time.sleep(0.001)
    partition = engine.partitions[number]
    assert partition.join(10)
    assert partition.state is State.PARKED
    assert "partition repair" in partition.problem
    engine.stop()

    log = MemoryLog(load.cluster, app.name, MemoryGroup(load.PARTITIONS))
    repairer = Repairer(log, load.stores[number], load.codec, number, lambda: MemoryStore(load.codec))
    found = repairer.examine()
    assert found.lost is not None
    assert found.lost.end == gone
    assert not found.wrong
    actor = Actor("person", "p")
    assert repairer.accept(Acceptance(actor, "they are gone")) == found
    assert repairer.examine().is_none
    log.close()
    events = [load.codec.decode_event(one.key, one.value).event for one in load.records("events")[number]]
    assert InputLost(*found.lost, actor, "they are gone") in [event.body for event in events]

    engine = load.engine()
    engine.start()
    assert int(load.result("w")) == 3 + 2
    engine.stop()
