"""`topics adopt`: the same log under other ids goes on, another one does not."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.core.apply.fold import Settings
from orchestrator.core.values import Actor
from orchestrator.engine.adoption import adopt, verify
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.errors import LogReplaced
from orchestrator.log.partitioner import partition_of
from orchestrator.projections.audit import AuditOptions, verify as audit
from orchestrator.projections.audit_report import lines
from orchestrator.testing.memory_cluster import COMMITTED, PartitionLog
from tests.engine.rig import MemorySite, Rig

app = Orchestrator("adopting")
go = app.signal("go", int)
Make = Callable[..., Rig]
WHO = Actor("person", "mia")
WORKFLOW = next(key for key in (f"w{n}" for n in range(99)) if partition_of(key.encode(), 2) == 0)


@app.workflow
async def waits() -> int:
    """Waits for a signal."""
    return await go.wait()


def worked(rig: Make) -> Rig:
    """A run that waits, and no engine any more."""
    one = rig(app)
    engine = one.engine()
    one.start(WORKFLOW, waits)
    engine.stop(5.0)
    return one


def moved(one: Rig, *names: str) -> None:
    """The same records, offsets and all, in topics with other ids."""
    with one.cluster.changed:
        for name in names:
            one.cluster.topics[f"{app.name}.{name}"].id = uuid.uuid4().hex


def parked(one: Rig, says: str) -> None:
    """An engine does not go on, and says what to do."""
    engine = one.engine()
    deadline = time.monotonic() + 20
    while 0 not in engine.partitions or engine.partitions[0].state is not State.PARKED:
        assert time.monotonic() < deadline, engine.health()
        time.sleep(0.005)
    assert says in engine.partitions[0].problem
    engine.stop(1.0)


def goes_on(one: Rig) -> Engine:
    """The run takes its signal."""
    engine = one.engine()
    one.signal(WORKFLOW, "go", b"7")
    assert one.result(WORKFLOW) == b"7"
    return engine


@pytest.mark.parametrize("names", [("events",), ("commands",), ("events", "commands")])
def test_the_same_log_is_adopted(rig: Make, names: tuple[str, ...]) -> None:
    one = worked(rig)
    assert isinstance(one.site, MemorySite)
    port = one.site.log(app.name)
    assert verify(port, one.stores[0], one.codec, 0).is_none
    moved(one, *names)
    parked(one, "topics adopt")
    before = len(one.cluster.partition(f"{app.name}.events", 0).entries)
    found = verify(port, one.stores[0], one.codec, 0)
    assert not found.is_none
    assert found.input_fits
    assert len(one.cluster.partition(f"{app.name}.events", 0).entries) == before, "a look writes nothing"
    for number in range(2):
        adopt(port, one.stores[number], one.codec, number, WHO, "another cluster", False)
    assert verify(port, one.stores[0], one.codec, 0).is_none
    ids = port.topic_ids()
    port.close()
    engine = goes_on(one)
    adopted = one.bodies(e.TopicsAdopted)[0]
    assert (adopted.events_topic_id, adopted.commands_topic_id) == (ids.events, ids.commands)
    assert (adopted.actor, adopted.reason) == (WHO, "another cluster")
    engine.stop(5.0)
    log = one.cluster.partition(f"{app.name}.events", 0)
    wires = [entry.wire for entry in log.entries if entry.state == COMMITTED]
    result = audit({0: [wires]}, one.codec, AuditOptions(settings=Settings(app.name)))
    assert result.ok, list(lines(result))
    assert any("the log goes on in topic" in line for line in lines(result))
    again = one.engine(stores={})
    assert one.result(WORKFLOW) == b"7"
    again.stop(5.0)


def test_another_log_is_refused(rig: Make) -> None:
    one = worked(rig)
    assert isinstance(one.site, MemorySite)
    moved(one, "events")
    log = one.cluster.partition(f"{app.name}.events", 0)
    last = max(at for at, entry in enumerate(log.entries) if entry.wire.key == b"\x00footer")
    log.entries[last].wire = log.entries[last].wire._replace(value=b"another history")
    port = one.site.log(app.name)
    with pytest.raises(LogReplaced, match="not the footer"):
        adopt(port, one.stores[0], one.codec, 0, WHO, "", False)
    port.close()
    parked(one, "topics adopt")


def test_input_that_is_not_the_same_is_left_out_only_on_demand(rig: Make) -> None:
    one = worked(rig)
    assert isinstance(one.site, MemorySite)
    moved(one, "commands")
    with one.cluster.changed:
        one.cluster.topics[f"{app.name}.commands"].partitions[0] = PartitionLog()
    port = one.site.log(app.name)
    with pytest.raises(LogReplaced, match="--skip-input"):
        adopt(port, one.stores[0], one.codec, 0, WHO, "", False)
    for number in range(2):
        adopt(port, one.stores[number], one.codec, number, WHO, "they are lost", True)
    port.close()
    goes_on(one)
    assert one.bodies(e.InputLost)[0].reason == "they are lost"
