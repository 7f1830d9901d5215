"""Growth of the partition count: old runs stay, new ones spread, and every command finds its run."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.routing import Hop, next_place, parse_hop
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Actor, Payload
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.engine.soundness import ClaimLost
from orchestrator.engine.visiting import found_partition
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Fenced
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog
from tests.engine.rig import MemorySite, Rig

pytestmark = pytest.mark.slow

app = Orchestrator("growing")
go = app.signal("go", int)

Make = Callable[..., Rig]
OLD, NEW = 2, 5


@app.step
def plus_one(x: int) -> int:
    """A local step: its outcome must find the partition that it began on."""
    return x + 1


@app.workflow
async def collects(n: int) -> list[int]:
    """Adds one to each of `n` signals."""
    return [await plus_one(await go.wait()) for _ in range(n)]


@app.entity
class Tally:
    """State that outlives its calls' runs."""

    count: int = 0

    @app.handler
    async def add(self, n: int) -> int:
        """What it counts to now."""
        self.count += n
        return self.count


def moved(old: int = OLD, new: int = NEW) -> Iterator[str]:
    """Workflow ids whose place differs between two counts, to a partition that is there in both."""
    for number in range(1_000_000):
        key = f"w{number}"
        places = [partition_of(key.encode(), count) for count in (old, new)]
        if places[0] != places[1] and places[1] < old:
            yield key


def to_new(old: int = OLD, new: int = NEW) -> Iterator[str]:
    """Workflow ids that a new partition is the home of."""
    return (key for key in (f"n{number}" for number in range(1_000_000)) if partition_of(key.encode(), new) >= old)


def grow_topics(one: Rig, count: int) -> None:
    """What the cluster does, once every partition has its owner."""
    assert isinstance(one.site, MemorySite)
    for number in range(one.site.partitions):
        epochs_of(one, number)
    for name in ("events", "commands"):
        one.cluster.grow(f"{one.app.name}.{name}", count)
    one.site.group.grow(count)
    one.site.partitions = count


def found(one: Rig, numbers: range, epochs: tuple[int, ...]) -> None:
    """The first records of new partitions."""
    log = MemoryLog(one.cluster, one.app.name, MemoryGroup(0))
    for number in numbers:
        # An engine that took it over in between hears of the count like the others.
        with contextlib.suppress(Fenced, ClaimLost):
            found_partition(log, one.codec, number, epochs, Actor("person", "p"), "more load")
    log.close()


def change(one: Rig, number: int, epochs: tuple[int, ...]) -> Reply:
    """Tell one partition of the new count."""
    return one.answers(one.send("", c.ChangeRouting(epochs), partition=number))[0]


def grow(one: Rig, old: int = OLD, new: int = NEW, epochs: tuple[int, ...] = (OLD, NEW)) -> None:
    """All of `topics grow`."""
    grow_topics(one, new)
    record(one, old, new, epochs)


def record(one: Rig, old: int = OLD, new: int = NEW, epochs: tuple[int, ...] = (OLD, NEW)) -> None:
    """What `topics grow` writes once the topics have grown."""
    found(one, range(old, new), epochs)
    for number in range(new):
        assert change(one, number, epochs).outcome == "accepted"


def epochs_of(one: Rig, number: int) -> list[int]:
    """What a partition knows."""
    reply = one.answers(one.send("", c.QueryWorkflow("routing"), partition=number))[0]
    known: list[int] = json.loads(reply.result.data)["epochs"]
    return known


def partition_of_run(one: Rig, workflow: str) -> set[int]:
    """Where a workflow's runs were started, by the raw log."""
    found = set()
    for number, records in one.records("events").items():
        for raw in records:
            event = one.codec.decode_event(raw.key, raw.value).event
            if isinstance(event.body, e.RunStarted) and event.workflow_id == workflow:
                found.add(number)
    return found


def test_old_runs_stay_new_ones_spread_and_all_are_found(rig: Make) -> None:
    one = rig(app, OLD)
    engine = one.engine()
    ids = [next(moved()), next(to_new())]
    for workflow in ids:
        one.start(workflow, collects, 2)
        one.signal(workflow, "go", b"1")
    grow(one)
    assert [epochs_of(one, number) for number in range(NEW)] == [[OLD, NEW]] * NEW
    for workflow in ids:
        one.signal(workflow, "go", b"5")
        assert one.result(workflow) == b"[2,6]"
        assert partition_of_run(one, workflow) == {partition_of(workflow.encode(), OLD)}
        described = json.loads(one.ask(workflow, c.QueryWorkflow("describe")).result.data)
        assert described["status"] == "completed"
    new_moved, new_home = (
        [key for key, _ in zip(moved(), range(2), strict=False)][1],
        [key for key, _ in zip(to_new(), range(2), strict=False)][1],
    )
    for workflow in (new_moved, new_home):
        one.start(workflow, collects, 1)
        one.signal(workflow, "go", b"8")
        assert one.result(workflow) == b"[9]"
        assert partition_of_run(one, workflow) == {partition_of(workflow.encode(), NEW)}
    assert engine.health().ready
    changed = one.bodies(e.RoutingChanged)
    assert [body.epochs for body in changed] == [(OLD, NEW)] * NEW
    assert not one.bodies(e.DeadLettered) + one.bodies(e.SendFailed)


def test_the_same_start_is_one_run_whichever_partition_hears_it_first(rig: Make) -> None:
    one = rig(app, OLD)
    one.engine()
    grow(one)
    workflow = next(to_new())
    body = c.StartWorkflow("collects", collects.code.signature.bind((1,), {}))
    old, home = (partition_of(workflow.encode(), count) for count in (OLD, NEW))
    for at in (old, home, old, home):
        one.send(workflow, body, "the-id", partition=at)
    assert {reply.outcome for reply in one.answers("the-id", 4)} == {"accepted"}
    assert len(one.bodies(e.RunStarted, workflow)) == 1
    refused = one.ask(workflow, body)
    assert (refused.outcome, refused.code) == ("rejected", "already_running")
    one.signal(workflow, "go", b"1")
    assert one.result(workflow) == b"[2]"


def test_policies_are_decided_where_the_id_was_used(rig: Make) -> None:
    one = rig(app, OLD)
    one.engine()
    workflow = next(to_new())
    one.start(workflow, collects, 0)
    assert one.result(workflow) == b"[]"
    grow(one)
    body = c.StartWorkflow("collects", collects.code.signature.bind((0,), {}), reuse="reject")
    assert one.ask(workflow, body).code == "already_closed"
    one.start(workflow, collects, 0)
    assert one.result(workflow) == b"[]"
    assert partition_of_run(one, workflow) == {partition_of(workflow.encode(), OLD)}, "its id was used there"


@pytest.mark.contract("entity")
def test_an_entity_stays_where_its_state_is_even_when_its_calls_are_purged(rig: Make) -> None:
    one = rig(app, OLD)
    one.engine(EngineOptions(retention_ms=50))
    workflow = next(key for key in (f"Tally/{n}" for n in range(1_000)) if partition_of(key.encode(), NEW) >= OLD)
    call = c.StartWorkflow("Tally.add", Payload(data=b'{"n":3}'), conflict="queue")
    one.accepted(workflow, call)
    one.wait_for(e.RunPurged, workflow)
    grow(one)
    one.accepted(workflow, call)
    one.wait_for(e.RunCompleted, workflow, 2)
    assert [body.result.data for body in one.bodies(e.RunCompleted, workflow)] == [b"3", b"6"]
    assert partition_of_run(one, workflow) == {partition_of(workflow.encode(), OLD)}
    described = json.loads(one.ask(workflow, c.QueryWorkflow("entity")).result.data)
    assert described["state"] == {"count": 6}


def test_a_signal_for_nobody_is_rejected_once_by_its_home(rig: Make) -> None:
    one = rig(app, OLD)
    one.engine()
    grow(one)
    workflow = next(to_new())
    reply = one.ask(workflow, c.SignalWorkflow("go", Payload(data=b"1")), "sig")
    assert (reply.outcome, reply.code) == ("rejected", "not_found")
    again = one.send(workflow, c.SignalWorkflow("go", Payload(data=b"1")), "sig")
    assert len(one.answers(again, 2)) == 2
    assert len(one.bodies(e.CommandRejected, workflow)) == 1
    assert one.ask(workflow, c.QueryWorkflow("describe")).code == "not_found"


def test_what_a_sender_sends_without_waiting_keeps_its_order(rig: Make) -> None:
    one = rig(app, OLD)
    one.engine()
    grow(one)
    count = 20
    workflow = next(to_new())
    body = c.StartWorkflow("collects", collects.code.signature.bind((count,), {}))
    sent = [one.send(workflow, body)]
    sent += [one.send(workflow, c.SignalWorkflow("go", Payload(data=b"%d" % n))) for n in range(count)]
    for command_id in sent:
        assert one.answers(command_id)[0].outcome == "accepted"
    assert json.loads(one.result(workflow)) == [n + 1 for n in range(count)]


@pytest.mark.parametrize("told", [0, 1])
def test_partitions_that_learn_at_different_moments_send_nothing_to_and_fro(rig: Make, told: int) -> None:
    """Between the growth of the topics and the last partition's word every command arrives, and no partition loops."""
    one = rig(app, OLD)
    one.engine()
    workflow = next(key for key in moved() if partition_of(key.encode(), OLD) == told)
    grow_topics(one, NEW)
    found(one, range(OLD, NEW), (OLD, NEW))
    assert change(one, told, (OLD, NEW)).outcome == "accepted"
    one.start(workflow, collects, 1)
    one.signal(workflow, "go", b"1")
    assert one.result(workflow) == b"[2]"
    assert partition_of_run(one, workflow) == {partition_of(workflow.encode(), NEW)}
    assert [epochs_of(one, number) for number in range(OLD)] == [[OLD, NEW]] * OLD, "a forward told the other one"
    assert len(one.bodies(e.CommandForwarded)) <= 4
    assert change(one, 1 - told, (OLD, NEW)).outcome == "accepted"


def test_a_third_count_asks_the_older_places_in_turn(rig: Make) -> None:
    one = rig(app, OLD)
    one.engine()
    third = 7
    spread = [
        key
        for key in (f"x{n}" for n in range(5_000))
        if len({partition_of(key.encode(), count) for count in (OLD, NEW, third)}) == 3
    ]
    one.start(spread[0], collects, 1)
    grow(one)
    one.start(spread[1], collects, 1)
    grow(one, NEW, third, (OLD, NEW, third))
    one.start(spread[2], collects, 1)
    for workflow, count in zip(spread, (OLD, NEW, third), strict=False):
        one.signal(workflow, "go", b"1")
        assert one.result(workflow) == b"[2]"
        assert partition_of_run(one, workflow) == {partition_of(workflow.encode(), count)}


def test_a_count_changed_behind_our_back_is_refused_until_it_is_recorded(
    rig: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig(app, OLD)
    engine = one.engine()
    old, late = next(moved()), next(to_new())
    one.start(old, collects, 1)
    grow_topics(one, NEW)
    start = c.StartWorkflow("collects", collects.code.signature.bind((1,), {}))
    waiting = one.send(late, start)
    engine.stop(1.0)
    engine = one.engine()
    until_state(engine, NEW - 1, "parked")
    assert "topics grow 5" in engine.partitions[NEW - 1].problem
    assert not engine.health().ready
    one.signal(old, "go", b"1")
    assert one.result(old) == b"[2]", "what is routed by the recorded count goes on"
    assert any("topics grow 5" in record.message for record in caplog.records)
    assert one.answers(waiting, wait_s=0.2) == []
    assert change(one, 0, (OLD, NEW, NEW + 1)).code == "no_such_partitions"
    record(one)
    assert one.answers(waiting)[0].outcome == "accepted"
    assert change(one, 0, (OLD,)).code == "other_epochs"
    assert change(one, 0, (3, NEW)).code == "other_epochs"
    until_state(engine, NEW - 1, "owned")


def until_state(engine: Engine, number: int, state: str) -> None:
    """Wait until a partition is in a state."""
    deadline = time.monotonic() + 20
    while number not in engine.partitions or engine.partitions[number].state.value != state:
        assert time.monotonic() < deadline, engine.health()
        time.sleep(0.005)


def test_forwards_survive_the_death_of_their_sender(rig: Make) -> None:
    """Commits that fail, and owners that are replaced, between two forwards: nothing is lost or counted twice."""
    one = rig(app, OLD)
    engine = one.engine()
    grow(one)
    failing = iter([""] * 6 + ["unknown", "", "", "lost"] * 3)
    one.cluster.on_commit = lambda name: next(failing, "")
    ids = [key for key, _ in zip(to_new(), range(6), strict=False)]
    starts = [one.send(key, c.StartWorkflow("collects", collects.code.signature.bind((1,), {}))) for key in ids]
    engine.stop(1.0)
    one.engine()
    for key, command in zip(ids, starts, strict=True):
        assert one.answers(command)[0].outcome == "accepted"
        one.signal(key, "go", b"1")
        assert one.result(key) == b"[2]"
        assert len(one.bodies(e.RunStarted, key)) == 1


def test_a_forward_rules_out_more_places_each_time() -> None:
    for places in ([1, 2, 3], [1, 2, 1, 3], [3, 1, 3], [1, 1, 1], [2, 3, 2]):
        for first in range(5):
            here, ruled, seen = first, 0, []
            while (found := next_place(places, here, ruled))[0] != here:
                here, ruled = found
                seen.append(found)
                assert len(seen) <= len(places)
            assert here == places[-1]
            asked = {first, *(place for place, _ in seen)}
            assert asked >= set(places), "every place that may have the run was asked"


def test_a_hop_reads_back_and_anything_else_is_none() -> None:
    hop = Hop((4, 8), 1, 6, 17)
    assert parse_hop(hop.encode()) == hop
    for text in ("", "4,8 1", "8,4 1 6 17", "a b c d", "0 0 0 0", "4 -1 0 0"):
        assert parse_hop(text) is None
