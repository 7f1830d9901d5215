"""`partition repair`: a broken log parks its partition, a person's word lets it go on, and every reader knows of it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.records import FOOTER_KEY
from orchestrator.core import commands as c, events as e
from orchestrator.core.apply.fold import Settings
from orchestrator.core.values import Actor, Payload
from orchestrator.engine.partition import State
from orchestrator.engine.repair import Acceptance, Damage, Repairer
from orchestrator.engine.run import Engine
from orchestrator.errors import UndecodableRecord
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Out, Wire
from orchestrator.projections.audit import Audit, AuditOptions, verify
from orchestrator.projections.audit_report import lines
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import state_hash
from orchestrator.testing.memory_cluster import COMMITTED, Entry, PartitionLog
from tests.engine.rig import MemorySite, Rig
from tests.oracle.batches import BatchReader
from tests.oracle.verdict import Verdict

pytestmark = pytest.mark.slow

app = Orchestrator("accepting")
go = app.signal("go", int)
Make = Callable[..., Rig]
WORD = Acceptance(Actor("person", "mia"), "a disk died")


@app.step
def plus_one(x: int) -> int:
    """A step."""
    return x + 1


@app.workflow
async def collects(n: int) -> list[int]:
    """Adds one to each of `n` signals."""
    return [await plus_one(await go.wait()) for _ in range(n)]


def ids() -> tuple[str, str, str]:
    """Three workflow ids of partition 0."""
    found = [key for key in (f"w{n}" for n in range(99)) if partition_of(key.encode(), 2) == 0]
    return found[0], found[1], found[2]


def worked(rig: Make) -> Rig:
    """Runs that took a signal, one that did not, and no engine any more."""
    one = rig(app)
    engine = one.engine()
    first, second, _ = ids()
    for workflow in (first, second):
        one.start(workflow, collects, 2)
    one.signal(first, "go", b"1")
    one.wait_for(e.StepCompleted, first)
    engine.stop(5.0)
    return one


def log_of(one: Rig) -> PartitionLog:
    """Partition 0 of events."""
    return one.cluster.partition(f"{app.name}.events", 0)


def places(one: Rig, holds: Callable[[object], bool]) -> list[int]:
    """Where in the log committed events are of a kind."""
    found = []
    for at, entry in enumerate(log_of(one).entries):
        with contextlib.suppress(UndecodableRecord):
            if entry.state == COMMITTED and holds(one.codec.decode_event(entry.wire.key, entry.wire.value).event.body):
                found.append(at)
    return found


def stands_still(one: Rig, engine: Engine, says: str) -> None:
    """Partition 0 is parked, loudly."""
    deadline = time.monotonic() + 20
    while 0 not in engine.partitions or engine.partitions[0].state is not State.PARKED:
        assert time.monotonic() < deadline, engine.health()
        time.sleep(0.005)
    assert says in engine.partitions[0].problem
    assert "partition repair 0" in engine.partitions[0].problem
    engine.stop(1.0)


def repaired(one: Rig, stores: dict[int, MemoryStore], acceptance: Acceptance = WORD) -> Damage:
    """What `partition repair 0`, then `--yes`, does."""
    assert isinstance(one.site, MemorySite)
    port = one.site.log(app.name)
    fresh: list[MemoryStore] = []

    def rebuild() -> MemoryStore:
        fresh.append(MemoryStore(one.codec))
        return fresh[-1]

    store = stores.setdefault(0, MemoryStore(one.codec))
    before = len(log_of(one).entries)
    found = Repairer(port, store, one.codec, 0, rebuild).examine()
    assert len(log_of(one).entries) == before, "a look writes nothing"
    assert not found.is_none
    fresh.clear()
    assert Repairer(port, store, one.codec, 0, rebuild).accept(acceptance) == found
    if found.state_dropped:
        stores[0] = fresh[-1]
    assert Repairer(port, stores[0], one.codec, 0, rebuild).examine().is_none
    port.close()
    return found


def audit(one: Rig, stores: dict[int, MemoryStore] | None = None) -> Audit:
    """`audit verify` of partition 0, with the state if stores are given."""
    log = log_of(one)
    wires = [entry.wire for entry in log.entries if entry.state == COMMITTED]
    state = (lambda number: state_hash(stores[number])) if stores is not None else None
    return verify({0: [wires]}, one.codec, AuditOptions(state_hash=state, settings=Settings(app.name)))


def goes_on(one: Rig, stores: dict[int, MemoryStore], found: Damage) -> None:
    """The engine starts; concerned runs wait for a person, the others go on; the audit says what was accepted."""
    _, second, third = ids()
    parked = [key[0] for key in found.parked]
    engine = one.engine(stores=stores)
    for workflow in parked:
        assert "partition repair accepted the log" in one.parked(workflow)
        one.accepted(workflow, c.RetryWorkflow())
    one.start(third, collects, 1)
    one.signal(third, "go", b"7")
    assert one.result(third) == b"[8]"
    one.signal(second, "go", b"3")
    one.signal(second, "go", b"4")
    assert one.result(second) == b"[4,5]"
    engine.stop(5.0)
    result = audit(one, stores)
    assert result.ok, list(lines(result))
    verdict = Verdict([], Counter())
    BatchReader(verdict, quiescent=True).read(one.records("events")[0])
    assert not verdict.anomalies, "the oracle reads by the published rule as well"
    said = "\n".join(lines(result))
    assert "accepted: " in said
    assert "person mia (claimed): a disk died" in said
    # Whoever begins from nothing reads the same state.
    again: dict[int, MemoryStore] = {}
    one.engine(stores=again).stop(5.0)
    engine = one.engine(stores=again)
    assert one.result(third) == b"[8]"
    engine.stop(5.0)


@pytest.mark.parametrize("how", ["bytes", "missing", "changed"])
def test_a_gap_is_set_aside_for_every_reader(rig: Make, how: str) -> None:
    one = worked(rig)
    assert isinstance(one.site, MemorySite)
    at = places(one, lambda body: isinstance(body, e.SignalReceived))[0]
    entries = log_of(one).entries
    wire = entries[at].wire
    if how == "bytes":
        entries[at].wire = wire._replace(value=b"no Avro")
    elif how == "missing":
        entries[at].state = "marker"
    else:
        other = places(one, lambda body: isinstance(body, e.RunStarted))[0]
        entries[at].wire = wire._replace(value=entries[other].wire.value)
    assert not audit(one).ok
    stores: dict[int, MemoryStore] = {}
    stands_still(one, one.engine(stores=stores), "events/0 offset")
    found = repaired(one, stores)
    first, _, _ = ids()
    assert [key[0] for key in found.parked] == [first]
    assert not found.state_dropped
    assert found.from_offset <= at < found.to_offset
    goes_on(one, stores, found)
    body = one_of(one, e.LogAccepted)
    assert (body.actor, body.reason, body.runs_parked) == (WORD.actor, WORD.reason, 1)


def one_of(one: Rig, kind: type) -> object | e.LogAccepted:
    """The one event of a kind on partition 0."""
    (at,) = places(one, lambda body: isinstance(body, kind))
    entry = log_of(one).entries[at]
    return one.codec.decode_event(entry.wire.key, entry.wire.value).event.body


def test_a_foreign_record_under_a_running_engine(rig: Make) -> None:
    one = rig(app)
    engine = one.engine()
    _, second, _ = ids()
    one.start(second, collects, 2)
    assert one.cluster.send(Out(f"{app.name}.events", 0, b"x", b"written by hand")) == ""
    deadline = time.monotonic() + 20
    while engine.partitions[0].state is not State.PARKED:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert "a record that this owner did not write" in engine.partitions[0].problem
    engine.stop(1.0)
    stores = one.stores
    stands_still(one, one.engine(stores=stores), "events/0 offset")
    found = repaired(one, stores)
    assert found.parked == ()
    goes_on(one, stores, found)


def test_a_log_that_was_cut_below_the_state(rig: Make) -> None:
    one = worked(rig)
    assert isinstance(one.site, MemorySite)
    one.site.group.offsets.clear()
    log = log_of(one)
    last = places(one, lambda body: isinstance(body, e.SignalReceived))[0]
    footer = max(at for at in places(one, lambda body: isinstance(body, e.BatchFooter)) if at < last)
    del log.entries[footer + 2 :]
    stores = one.stores
    stands_still(one, one.engine(stores=stores), "it was cut or replaced")
    found = repaired(one, stores)
    first, _, _ = ids()
    assert found.state_dropped
    assert [key[0] for key in found.parked] == [first]
    assert found.reads_from < found.reads_to, "the signal is read again"
    goes_on(one, stores, found)
    one.engine(stores=stores)
    one.signal(first, "go", b"9")
    assert one.result(first) == b"[2,10]"


def test_a_log_that_was_replaced_starts_anew_without_its_old_commands(rig: Make) -> None:
    one = worked(rig)
    assert isinstance(one.site, MemorySite)
    with one.cluster.changed:
        one.cluster.delete(f"{app.name}.events")
        one.cluster.create(f"{app.name}.events", 2)
    stores = one.stores
    stands_still(one, one.engine(stores=stores), "the topic is now")
    found = repaired(one, stores, WORD._replace(skip_input=True))
    first, second, third = ids()
    assert {key[0] for key in found.gone} == {first, second}
    one.engine(stores=stores)
    assert one.ask(first, c.SignalWorkflow("go", Payload(data=b"1"))).code == "not_found"
    one.start(third, collects, 0)
    assert one.result(third) == b"[]"
    assert one.bodies(e.InputLost)[0].actor == WORD.actor
    assert not one.bodies(e.RunStarted, first), "what was said to be lost is not read again"


def test_a_repair_that_dies_half_way_is_finished(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = worked(rig)
    at = places(one, lambda body: isinstance(body, e.SignalReceived))[0]
    log_of(one).entries[at].wire = log_of(one).entries[at].wire._replace(value=b"no Avro")
    stores: dict[int, MemoryStore] = {0: MemoryStore(one.codec)}

    class Died(Exception):
        """The process ended."""

    def dies(self: object, *args: object, **kwargs: object) -> None:
        raise Died

    assert isinstance(one.site, MemorySite)
    port = one.site.log(app.name)
    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.engine.loop.PartitionLoop.hand_over", dies)
        with pytest.raises(Died):
            Repairer(port, stores[0], one.codec, 0, lambda: MemoryStore(one.codec)).accept(WORD)
    port.close()
    stands_still(one, one.engine(stores=stores), "begun and not finished")
    assert not one_gap(one), "the claim alone sets the gap aside; what it asks for is still to be done"
    found = repaired(one, stores)
    assert "not finished" in found.wrong
    engine = one.engine(stores=stores)
    one.start(ids()[2], collects, 0)
    assert one.result(ids()[2]) == b"[]"
    engine.stop(5.0)
    assert audit(one).ok


def one_gap(one: Rig) -> bool:
    """Whether the audit still meets the gap."""
    return any(finding.kind in ("gap", "undecodable") for finding in audit(one).findings)


def test_a_state_that_reflects_what_was_set_aside_is_not_gone_on_with(rig: Make) -> None:
    """Another volume, folded before the gap came about, must not outlive the repair."""
    one = worked(rig)
    ahead = one.stores
    at = places(one, lambda body: isinstance(body, e.SignalReceived))[0]
    log_of(one).entries[at].wire = log_of(one).entries[at].wire._replace(value=b"no Avro")
    stores: dict[int, MemoryStore] = {}
    repaired(one, stores)
    engine = one.engine(stores=ahead)
    deadline = time.monotonic() + 20
    while 0 not in engine.partitions or engine.partitions[0].state is not State.PARKED:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert "delete the state directory" in engine.partitions[0].problem


def test_a_higher_level_is_never_accepted(rig: Make) -> None:
    one = worked(rig)
    last = places(one, lambda body: isinstance(body, e.BatchFooter))[-1]
    entry = log_of(one).entries[last]
    record = one.codec.decode_event(FOOTER_KEY, entry.wire.value)
    body = record.event.body
    assert isinstance(body, e.BatchFooter)
    newer = one.codec.seal(record.event._replace(body=body._replace(level=99)))
    log_of(one).entries[last] = Entry(Wire(*entry.wire)._replace(value=newer.value), COMMITTED)
    assert isinstance(one.site, MemorySite)
    port = one.site.log(app.name)
    with pytest.raises(Exception, match="upgrade before reading on"):
        Repairer(port, MemoryStore(one.codec), one.codec, 0, lambda: MemoryStore(one.codec)).accept(WORD)
    port.close()
