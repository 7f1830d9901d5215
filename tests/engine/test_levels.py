"""The level in force: a new release writes what the one before reads, until it is told that there is no way back.

The next release is this one with `levels.LEVEL` set to 2: the level is the only thing that it has more of.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e, levels
from orchestrator.core.apply.fold import Settings
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Actor
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.errors import LogGap
from orchestrator.projections.audit import AuditOptions, verify
from orchestrator.sdk.identity import release
from orchestrator.store.rows import state_hash
from tests.engine.rig import Rig, kill
from tests.oracle.oracle import Evidence, Expected, LoadModel, check

Make = Callable[..., Rig]
Release = Callable[[int], None]
app = Orchestrator("levels")
go = app.signal("go", int)


@app.step
def plus_one(x: int) -> int:
    return x + 1


@app.workflow
async def adds() -> int:
    """One step before a signal and one after it."""
    return await plus_one(await plus_one(0) + await go.wait())


@pytest.fixture
def release_of(monkeypatch: pytest.MonkeyPatch) -> Release:
    """From here on this process is the release with that level."""
    return lambda level: monkeypatch.setattr(levels, "LEVEL", level)


def finalize(one: Rig, level: int) -> list[Reply]:
    """Ask every partition for a level; what each owner said."""
    said = []
    for number in range(one.site.partitions):
        said.append(one.answers(one.send("", c.ChangeLevel(level), partition=number))[0])
    return said


def bodies(one: Rig) -> list[e.Body]:
    """Every record of the log, partition by partition, claims and footers too."""
    found = [record for records in one.records("events").values() for record in records]
    return [one.codec.decode_event(record.key, record.value).event.body for record in found]


def written(one: Rig) -> list[int]:
    """The levels of all footers, partition by partition, in their order."""
    return [body.level for body in bodies(one) if isinstance(body, e.BatchFooter)]


def claims(one: Rig) -> list[e.PartitionClaimed]:
    """All claims."""
    return [body for body in bodies(one) if isinstance(body, e.PartitionClaimed)]


def parked(engine: Engine, one: Rig) -> list[str]:
    """Wait until every partition stands still; what each says."""
    deadline = time.monotonic() + 20
    while [part.state for part in engine.partitions.values()] != [State.PARKED] * one.site.partitions:
        assert time.monotonic() < deadline, {n: part.state for n, part in engine.partitions.items()}
        time.sleep(0.005)
    return [part.problem for part in engine.partitions.values()]


def test_a_log_of_this_release_is_of_its_level(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", adds)
    one.signal("w", "go", b"1")
    assert one.result("w") == b"3"
    assert set(written(one)) == {levels.LEVEL}
    assert {reply.code for reply in finalize(one, levels.LEVEL)} == {"already_changed"}
    assert {claim.engine for claim in claims(one)} == {release()}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_rollback_before_it_is_finalized_is_safe(rig: Make, release_of: Release) -> None:
    one = rig(app)
    for level in (1, 2, 1, 2):
        release_of(level)
        engine = one.engine()
        workflow = f"w-{len(one.engines)}"
        one.start(workflow, adds)
        one.signal(workflow, "go", b"1")
        assert one.result(workflow) == b"3"
        if level == 2:
            kill(engine)
        else:
            engine.stop(1.0)
    assert set(written(one)) == {1}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_runs_cross_the_change(rig: Make, release_of: Release) -> None:
    """Begun under the old release, gone on under the new one before and after the level was raised, and restored."""
    one = rig(app)
    old = one.engine()
    for workflow in ("a", "b", "c"):
        one.start(workflow, adds)
    one.wait_for(e.StepCompleted, count=3)
    old.stop(1.0)
    release_of(2)
    new = one.engine()
    one.signal("a", "go", b"1")
    assert one.result("a") == b"3"
    assert set(written(one)) == {1}
    assert {reply.code for reply in finalize(one, 2)} == {"LevelChanged"}
    one.signal("b", "go", b"1")
    assert one.result("b") == b"3"
    kill(new)
    one.engine(stores={})
    one.signal("c", "go", b"1")
    assert one.result("c") == b"3"
    found = written(one)
    assert set(found) == {1, 2}
    assert [claim.level for claim in claims(one)].count(2) == 2, "the claims after it"


def test_after_it_an_older_release_parks_and_names_the_command(rig: Make, release_of: Release) -> None:
    one = rig(app)
    release_of(2)
    new = one.engine()
    one.start("w", adds)
    one.wait_for(e.StepCompleted)
    finalize(one, 2)
    new.stop(1.0)
    before = {number: len(records) for number, records in one.records("events", committed=False).items()}
    release_of(1)
    for stores in (one.stores, {}):
        for problem in parked(old := one.engine(stores=stores), one):
            assert "orchestrator upgrade finalize" in problem
            assert "level 2 is in force, this release reads up to level 1" in problem
        old.stop(1.0)
    assert {n: len(records) for n, records in one.records("events", committed=False).items()} == before, "wrote nothing"
    release_of(2)
    one.engine()
    one.signal("w", "go", b"1")
    assert one.result("w") == b"3"


def test_an_older_reader_stops_before_the_batch_of_the_change(rig: Make, release_of: Release) -> None:
    one = rig(app, 1)
    release_of(2)
    one.engine()
    one.start("w", adds)
    one.wait_for(e.StepCompleted)
    finalize(one, 2)
    one.signal("w", "go", b"1")
    assert one.result("w") == b"3"
    release_of(1)
    shown: list[e.Event] = []
    assembler = BatchAssembler("levels.events/0")

    def read() -> None:
        for record in one.records("events")[0]:
            batch = assembler.feed(one.codec.decode_event(record.key, record.value), record.offset)
            shown.extend(one.event for one in batch.records if not batch.is_claim) if batch else None

    with pytest.raises(LogGap, match="upgrade before reading on"):
        read()
    assert shown
    assert not [event for event in shown if isinstance(event.body, e.LevelChanged | e.SignalReceived)]


def test_levels_only_rise_and_only_to_what_the_owner_has(rig: Make, release_of: Release) -> None:
    one = rig(app)
    one.engine()
    assert {reply.code for reply in finalize(one, 2)} == {"release_too_old"}
    release_of(2)
    assert {reply.code for reply in finalize(one, 2)} == {"LevelChanged"}
    assert {reply.code for reply in finalize(one, 2)} == {"already_changed"}
    assert {reply.code for reply in finalize(one, 1)} == {"lower_level"}


def test_who_raised_it_and_why_is_recorded(rig: Make, release_of: Release) -> None:
    one = rig(app, 1)
    release_of(2)
    one.engine()
    actor = Actor("person", "eva", via="cli")
    command = c.Command("raise-1", "", c.ChangeLevel(2), actor, "no way back", reply_to=one.site.reply_to)
    one.send_raw(b"", one.codec.encode_command(command), 0)
    assert [reply.outcome for reply in one.answers("raise-1")] == ["accepted"]
    assert one.bodies(e.LevelChanged) == [e.LevelChanged(2, actor, "no way back")]


def test_the_owner_says_its_level_and_its_release(rig: Make, release_of: Release) -> None:
    one = rig(app, 1)
    release_of(2)
    one.engine()
    one.start("w", adds)
    reply = one.answers(one.send("", c.QueryWorkflow("level"), partition=0))[0]
    assert json.loads(reply.result.data) == {"level": 1, "reads": 2, "engine": release()}


def test_audit_and_oracle_follow_a_raised_level(rig: Make, release_of: Release) -> None:
    one = rig(app)
    release_of(2)
    engine = one.engine()
    one.start("w", adds)
    finalize(one, 2)
    one.signal("w", "go", b"1")
    assert one.result("w") == b"3"
    engine.stop(1.0)
    wires = {n: [log.read(0, 1 << 30)[0]] for n, log in enumerate(one.cluster.topics[f"{app.name}.events"].partitions)}
    options = AuditOptions(state_hash=lambda n: state_hash(one.stores[n]), settings=Settings(app.name))
    found = verify(wires, one.codec, options)
    assert found.ok, found.findings
    assert {part.state for part in found.partitions.values()} == {"equal"}
    records = one.records("events"), one.records("events", committed=False)
    judged = check(*records, LoadModel({"w": Expected(3, steps=2)}, one.acked), Evidence(one.records("commands")))
    assert not judged.anomalies, judged.text()
    release_of(1)
    found = verify(wires, one.codec, AuditOptions())
    assert ["upgrade before reading on" in str(finding) for finding in found.findings] == [True] * 2
