"""Warm standby: what others own is folded here, too, and taken over with only a tail to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core import events as e
from orchestrator.core.rows import META, POSITION_KEY, Key
from orchestrator.engine import standby
from orchestrator.engine.options import EngineOptions, StandbyOptions
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.engine.standby import Standbys, Warm
from orchestrator.errors import StoreDamaged
from orchestrator.log.partitioner import partition_of
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import open_or_rebuild
from orchestrator.store.rows import ROW_CACHE_ROWS, state_hash
from orchestrator.telemetry.observer import Observer
from tests.engine.rig import MemorySite, Rig, kill, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

Make = Callable[..., Rig]
ALL = StandbyOptions()

app = Orchestrator("warm")


@app.step
async def add(x: int) -> int:
    return x + 1


@app.workflow
async def adds(n: int) -> int:
    total = 0
    for _ in range(n):
        total = await add(total)
    return total


class Watching(Observer):
    """Keeps what take-overs and standbys say."""

    def __init__(self) -> None:
        self.folded: dict[int, int] = {}
        self.behind: dict[int, int | None] = {}

    def restored(self, partition: int, events: int, took_s: float) -> None:
        self.folded[partition] = events

    def standby(self, partition: int, behind: int | None) -> None:
        self.behind[partition] = behind


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that cost a broker something are a second apart; here they cost nothing."""
    monkeypatch.setattr(standby, "LOOK_S", 0.02)
    monkeypatch.setattr(standby, "PACE_S", 0.01)


def standbys(engine: Engine) -> Standbys:
    """What an engine follows."""
    found = engine._standby
    assert isinstance(found, Standbys)
    return found


def owned(engine: Engine) -> set[int]:
    """The partitions that an engine owns now."""
    return {number for number, partition in list(engine.partitions.items()) if partition.state is State.OWNED}


def run(rig: Rig, numbers: range, partition: int) -> None:
    """Runs of one partition, to their end."""
    for number in numbers:
        names = (f"r{number}-{n}" for n in range(1_000))
        name = next(one for one in names if partition_of(one.encode(), rig.site.partitions) == partition)
        rig.start(name, adds, 3)
        assert rig.result(name) == b"3"


def folded(engine: Engine, rig: Rig, number: int) -> bool:
    """Whether a follower has folded everything that is visible."""
    place = standbys(engine)._places.get(number)
    log = rig.cluster.partition(f"{rig.app.name}.events", number)
    wires, _ = log.read(0, 1 << 30)
    return place is not None and place.follower is not None and place.follower.at > wires[-1].offset


def at_rest(engine: Engine, number: int) -> bool:
    """Whether an owner writes nothing more of itself: the footer that says what left its outbox is there, too."""
    loop = engine.partitions[number]._loop
    assert loop is not None
    return loop.idle_for() is not None and not loop._outbox_moved()


def pair(rig: Rig, stores: dict[int, MemoryStore], watching: Observer) -> tuple[Engine, Engine, int]:
    """An owner of everything; another engine that takes one partition and follows the other, whose number comes back.

    The first keeps its rows in the rig's stores.
    """
    first = rig.engine()
    until(lambda: owned(first) == {0, 1})
    second = rig.engine(EngineOptions(standby=ALL, observer=watching), stores=stores)
    until(lambda: len(owned(second)) == 1)
    (number,) = {0, 1} - owned(second)
    return first, second, number


def test_a_warm_partition_is_taken_over_with_nothing_left_to_fold(rig: Make) -> None:
    one, stores, watching = rig(app), {}, Watching()
    first, second, number = pair(one, stores, watching)
    run(one, range(10), number)
    until(lambda: at_rest(first, number) and folded(second, one, number) and watching.behind.get(number) == 0)
    assert second.health().standby == {number: {"behind": 0, "problem": ""}}
    assert second.health().ready
    assert state_hash(stores[number]) == state_hash(one.stores[number])
    kill(first)
    until(lambda: owned(second) == {0, 1})
    assert watching.folded[number] == 0, "a standby leaves only what came after it"
    assert watching.behind[number] is None
    assert second.health().standby == {}
    run(one, range(10, 12), number)


def test_what_came_after_the_standby_is_folded_at_the_take_over(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one, stores, watching = rig(app), {}, Watching()
    first, second, number = pair(one, stores, watching)
    run(one, range(5), number)
    until(lambda: folded(second, one, number))
    monkeypatch.setattr(Standbys, "_step", lambda self, place: False)
    until(lambda: standbys(second)._busy is None)
    reached = stores[number].get(META, POSITION_KEY).next_offset
    run(one, range(5, 9), number)
    kill(first)
    until(lambda: owned(second) == {0, 1})
    before_the_kill = [batch for batch in one.batches() if not batch.is_claim and batch.footer.event.claim_no == 1]
    after = [b for b in before_the_kill if b.footer.event.body.position.partition == number and b.offset >= reached]
    assert watching.folded[number] == sum(len(batch.records) for batch in after) > 0


def test_a_standby_writes_to_no_topic(rig: Make) -> None:
    one, stores, watching = rig(app), {}, Watching()
    _, second, number = pair(one, stores, watching)
    run(one, range(3), number)
    until(lambda: folded(second, one, number))
    bodies = [one.codec.decode_event(raw.key, raw.value).event.body for raw in one.records("events")[number]]
    claims = [body for body in bodies if isinstance(body, e.PartitionClaimed)]
    assert [claim.instance for claim in claims] == [one.engines[0].options.instance]
    epochs = one.cluster._transactional
    assert [epochs[f"{app.name}.{number}.{lane}"].epoch for lane in "ab"] == [0, 0]


def test_what_is_given_away_is_followed_and_comes_back_warm(rig: Make) -> None:
    one, watching = rig(app), Watching()
    first = one.engine(EngineOptions(standby=ALL, observer=watching))
    until(lambda: owned(first) == {0, 1})
    assert first.health().standby == {}
    run(one, range(4), 1)
    second = one.engine(stores={})
    until(lambda: owned(second) == {1} and owned(first) == {0})
    run(one, range(4, 8), 1)
    until(lambda: folded(first, one, 1))
    kill(second)
    until(lambda: owned(first) == {0, 1})
    assert watching.folded[1] == 0
    run(one, range(8, 9), 1)


def test_only_what_is_named_is_followed(rig: Make) -> None:
    one = rig(app, 4)
    first = one.engine()
    until(lambda: owned(first) == {0, 1, 2, 3})
    second = one.engine(EngineOptions(standby=StandbyOptions((0, 1))), stores={})
    until(lambda: len(owned(second)) == 2)
    until(lambda: set(standbys(second).told()) == {0, 1} - owned(second))


def test_partitions_that_were_added_are_followed(rig: Make) -> None:
    one = rig(app)
    engine = one.engine(EngineOptions(standby=ALL))
    until(lambda: owned(engine) == {0, 1})
    for topic in ("commands", "events"):
        one.cluster.grow(f"{app.name}.{topic}", 3)
    assert standbys(engine).told() == {}
    engine._topics.look()
    until(lambda: standbys(engine).told() == {2: Warm(0)})


class Damaged(MemoryStore):
    """Rows that cannot be read any more, once it is told so; begun anew they can."""

    broken = False
    kept: list[str]

    def get(self, family: str, key: Key) -> Any:
        if self.broken:
            raise StoreDamaged("a block of it is not what its checksum says")
        return super().get(family, key)

    def set_aside(self, why: str) -> None:
        self.kept = [*getattr(self, "kept", []), why]
        self.broken = False
        super().set_aside(why)


def test_a_damaged_standby_begins_anew_and_stops_nobody(rig: Make) -> None:
    one, watching = rig(app), Watching()
    stores: dict[int, Any] = {number: Damaged(Codec()) for number in range(2)}
    first, second, number = pair(one, stores, watching)
    run(one, range(3), number)
    until(lambda: folded(second, one, number))
    before = len(stores[number].kept)
    stores[number].broken = True
    run(one, range(3, 5), number)
    until(lambda: len(stores[number].kept) > before)
    until(lambda: folded(second, one, number))
    assert "standby" in stores[number].kept[-1]
    assert second.health().ready
    run(one, range(5, 6), 1 - number)
    until(lambda: folded(second, one, number))
    assert state_hash(stores[number]) == state_hash(one.stores[number])
    kill(first)
    until(lambda: owned(second) == {0, 1})
    run(one, range(6, 7), number)


def test_a_directory_of_another_log_is_kept_and_told(rig: Make) -> None:
    """An owner would be parked: a person looks at what it may be the last witness of. A standby only says so."""
    stores: dict[int, MemoryStore] = {}
    other = Rig(app, MemorySite(app.name, 2))
    engine = other.engine(stores=stores)
    run(other, range(2), 0)
    engine.stop(1.0)
    other.close()
    foreign = {0: stores[0]}
    hashed = state_hash(stores[0])
    one = rig(app)
    first = one.engine()
    until(lambda: owned(first) == {0, 1})
    second = one.engine(EngineOptions(standby=ALL), stores=foreign)
    until(lambda: owned(second) == {1} and owned(first) == {0})
    until(lambda: "topics adopt" in standbys(second).told()[0].problem)
    assert second.health().ready
    run(one, range(2), 0)
    run(one, range(2, 4), 1)
    assert state_hash(foreign[0]) == hashed


def test_directories_on_disk_are_handed_over_open(rig: Make, tmp_path: Path) -> None:
    one, watching = rig(app), Watching()
    first = one.engine()
    until(lambda: owned(first) == {0, 1})

    def opened(number: int, codec: Codec) -> Any:
        return open_or_rebuild(tmp_path / str(number), codec)

    options = EngineOptions(standby=ALL, observer=watching)
    second = one.engine(options, open_store=opened)
    until(lambda: len(owned(second)) == 1)
    (number,) = {0, 1} - owned(second)
    run(one, range(5), number)
    until(lambda: folded(second, one, number))
    place = standbys(second)._places[number]
    store: Any = place.store
    assert store._kept == standby.ROWS
    kill(first)
    until(lambda: owned(second) == {0, 1})
    assert second.partitions[number]._loop.ground.store is store
    assert store._kept == ROW_CACHE_ROWS
    assert watching.folded[number] == 0
    second.stop(1.0)
    # What it left is a directory like every other.
    again = one.engine(replace(options, instance="again"), open_store=opened)
    until(lambda: owned(again) == {0, 1})
    run(one, range(5, 6), number)
    again.stop(1.0)
