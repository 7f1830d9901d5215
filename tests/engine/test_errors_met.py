"""What engines, stores and tools meet, caught where it is raised: the very class, and what it says."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.config import Settings
from orchestrator.core import commands as c
from orchestrator.core.limit_rows import home_of
from orchestrator.core.rows import META, POSITION_KEY
from orchestrator.core.values import LimitedTask, LimitNeed
from orchestrator.engine import restored
from orchestrator.engine.clock import SYSTEM_CLOCK, Clock, SystemClock
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.ownership import Ground
from orchestrator.engine.skew import ClockSkewed
from orchestrator.engine.soundness import ClaimLost, HangingTransaction
from orchestrator.engine.standby import Follower
from orchestrator.engine.visiting import ground_of, visit
from orchestrator.errors import ConfigurationError, LogReplaced, StoreDamaged, StoreError
from orchestrator.log.ports import Wire
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import PartitionStore
from orchestrator.testing.memory_cluster import ABORTED, COMMITTED, MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics
from tests.engine.rig import Rig


class Owners:
    """Those who would own the one partition of an application."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        create_topics(self.cluster, "shop", 1)
        self.logs: list[MemoryLog] = []

    def one(self, clock: Clock = SYSTEM_CLOCK) -> Ground:
        self.logs.append(MemoryLog(self.cluster, "shop", MemoryGroup(1)))
        codec, options = Codec(), EngineOptions(instance=f"owner-{len(self.logs)}", hang_s=0.2)
        inbox = Inbox(lambda: None, lambda: None)
        return Ground(0, self.logs[-1], codec, MemoryStore(codec), inbox, options, clock)


@pytest.fixture
def owners() -> Iterator[Owners]:
    """Closed after the test."""
    made = Owners()
    yield made
    for log in made.logs:
        log.close()


def test_a_claim_by_another(owners: Owners) -> None:
    first, second = owners.one(), owners.one()
    first.take_over()
    second.take_over()
    first.give_up()
    first.renew_lanes()
    with pytest.raises(ClaimLost, match=r"claimed by owner-2 \(claim 2\), after claim 1 of this engine") as lost:
        first.take_over()
    assert type(lost.value) is ClaimLost


def test_an_open_transaction_hides_the_log(owners: Owners) -> None:
    owner = owners.one()
    epoch = owners.cluster.init("somebody-else")
    owners.cluster.produce("somebody-else", epoch, "shop.events", 0, [(b"k", b"v")])
    with pytest.raises(HangingTransaction, match="open transaction hides them"):
        owner.take_over()


def test_records_that_keep_coming_hide_no_claim(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes until the own claim is read: only a tail that stands still is an open transaction."""
    for _ in range(4):
        owners.one().take_over()
    owner, now, came, take = owners.one(), [0.0], deque[Wire](), Ground._next

    def slowly() -> Wire:
        """One at a time, and for each most of the time within which one must come."""
        if not came:
            came.append(take(owner))
            came.extend(owner.inbox.tail)
            owner.inbox.tail.clear()
        now[0] += 0.8 * owner.options.hang_s
        return came.popleft()

    monkeypatch.setattr(owner, "_next", slowly)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    owner.take_over()
    assert (owner.claim_no, len(came)) == (5, 0)


def test_a_footer_that_was_aborted_behind_the_state(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end was lost with a broker, and a person aborted it: nothing is hidden there, and nothing is there."""
    monkeypatch.setattr(restored, "FOOTER_S", 0.02)
    codec = Codec()
    store = MemoryStore(codec)
    owners.one()
    (log,) = owners.logs
    with visit(ground_of(log, store, codec, 0)) as loop:
        loop.hand_over()
    at = store.get(META, POSITION_KEY).next_offset - 1
    for entry in owners.cluster.partition("shop.events", 0).entries[at:]:
        entry.state = ABORTED if entry.state == COMMITTED else entry.state
    inbox, options = Inbox(lambda: None, lambda: None), EngineOptions(hang_s=5.0)
    owner, follower = (kind(0, log, codec, store, inbox, options) for kind in (Ground, Follower))
    with pytest.raises(LogReplaced, match=f"offset {at}: the footer that the state was folded from is not there"):
        owner.restore()
    owner.give_up()
    with pytest.raises(LogReplaced, match="nor anything behind it: the log was cut"):
        follower.begin()


def test_a_clock_that_is_wrong(owners: Owners) -> None:
    class Ahead(SystemClock):
        def wall_ms(self) -> int:
            return super().wall_ms() + 3_600_000

    owner = owners.one(Ahead())
    owner.take_over()
    with pytest.raises(ClockSkewed, match="ahead of the brokers'"):
        owner.skew.check(owner.where)


def test_a_directory_that_is_damaged_and_one_that_is_in_use(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Codec())
    with pytest.raises(StoreError, match="in use by another process") as in_use:
        PartitionStore(tmp_path / "0", Codec())
    assert type(in_use.value) is StoreError
    store.close()
    (tmp_path / "0" / "CURRENT").write_bytes(b"MANIFEST-999999\n")
    with pytest.raises(StoreDamaged, match="is damaged"):
        PartitionStore(tmp_path / "0", Codec())


def test_a_setting_that_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="give --app") as missing:
        Settings().required_app()
    assert type(missing.value) is ConfigurationError


def test_refusals_that_only_engines_and_old_releases_meet(rig: Callable[[Orchestrator], Rig]) -> None:
    app = Orchestrator("refusals")

    @app.workflow
    async def buggy() -> int:
        raise LookupError("not yet")

    one = rig(app)
    one.engine()
    task, needs = LimitedTask("w", "r"), (LimitNeed("g", "two", concurrency=2),)
    one.send(home_of("g"), c.AcquireSlots(task, needs))
    assert one.ask(home_of("g"), c.AcquireSlots(task, needs)).code == "already_asked"
    one.accepted("w", c.StartWorkflow("unknown"))
    assert one.ask("w", c.QueryWorkflow("code", name="anything")).code == "no_code"
    assert one.ask("w", c.UpdateWorkflow("anything")).code == "no_code"
    one.start("v", buggy)
    one.parked("v")
    assert one.ask("v", c.PauseWorkflow()).code == "not_running"
