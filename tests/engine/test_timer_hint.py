"""Where a scan for due timers begins is kept with the state: nobody walks what fired, and no timer is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core import events as e
from orchestrator.core.rows import (
    NEVER_MS,
    RUNS,
    TIMERS,
    CurrentRow,
    Key,
    TimerDueRow,
    TimerRow,
    timer_due_key,
    timer_key,
)
from orchestrator.engine import restored
from orchestrator.engine.overlay import Overlay
from orchestrator.engine.visiting import ground_of
from orchestrator.store import partition_store
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.rows import Store
from tests.engine.rig import MemorySite, Rig, kill, until
from tests.faults.disks import restore_whole

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
app = Orchestrator("timer-hint")
HOUR_S = 3_600.0
CODEC = Codec()


@app.workflow
async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


def timer(due_ms: int) -> dict[tuple[str, Key], Any]:
    """What a timer's start writes."""
    name = f"sleep|{due_ms}"
    return {
        (TIMERS, timer_key(due_ms, "w", "r", name)): TimerRow("w", "r", "sleep", str(due_ms)),
        (TIMERS, timer_due_key("w", "r", name)): TimerDueRow(due_ms),
    }


def gone(due_ms: int) -> dict[tuple[str, Key], Any]:
    """What its end writes."""
    return dict.fromkeys(timer(due_ms))


def again(store: PartitionStore) -> PartitionStore:
    """The directory closed and opened."""
    store.close()
    return PartitionStore(store.directory, CODEC)


def test_the_hint_is_written_with_the_rows(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", CODEC)
    assert store.timers_from == 0
    store.write(timer(100) | timer(900))
    assert store.timers_from == 0, "nothing is known of what was there before"
    store.write(gone(100), timers_from=900)
    assert store.timers_from == 900
    # One before it lowers it in the same write, whatever the writer believed.
    store.write(timer(500), timers_from=900)
    store.write({(RUNS, ("w",)): CurrentRow("r")})
    store = again(store)
    assert store.timers_from == 500
    store.write(gone(500) | gone(900), timers_from=NEVER_MS)
    store = again(store)
    assert store.timers_from == NEVER_MS
    store.set_aside("it is tried")
    assert store.timers_from == 0
    store.close()


def test_a_release_that_does_not_know_the_hint_makes_it_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was rolled back to, wrote an earlier timer, and left the hint as it was."""
    store = PartitionStore(tmp_path / "0", CODEC)
    store.write(timer(900), timers_from=900)
    store = again(store)
    assert store.timers_from == 900
    with monkeypatch.context() as older:
        older.setattr(partition_store, "TIMERS_FROM", b"\x00another")
        store.write(timer(100))
    store = again(store)
    assert store.timers_from == 0
    store.close()


class Watched:
    """Where scans for due timers began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts: list[int] = []
        scan = Overlay.scan

        def noted(overlay: Overlay, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
            if family == TIMERS and prefix == (1,):
                assert after is not None
                self.starts.append(int(after[1]))
            return scan(overlay, family, prefix, after)

        monkeypatch.setattr(Overlay, "scan", noted)


def on_disk(one: Rig, root: Path, opened: list[Store]) -> Any:
    """An engine with its state in directories, which are noted as they are opened."""

    def opening(number: int, codec: Codec) -> Store:
        opened.append(PartitionStore(root / str(number), codec))
        return opened[-1]

    return one.engine(open_store=opening)


@pytest.mark.parametrize("clean", [True, False])
def test_an_owner_begins_where_the_one_before_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    """Fired timers lie behind it; one that is set before the hint, last thing before a death, is not missed."""
    one = Rig(app, MemorySite(app.name, 1))
    opened: list[Store] = []
    try:
        engine = on_disk(one, tmp_path, opened)
        for number in range(20):
            one.start(f"short-{number}", sleeps, 0.01)
        for number in range(20):
            assert one.result(f"short-{number}") == b'"slept"'
        one.start("long", sleeps, HOUR_S)
        (far,) = one.wait_for(e.TimerSet, "long")
        # The batch after it has looked at the timers, and its rows are written.
        one.start("short-20", sleeps, 0.01)
        assert one.result("short-20") == b'"slept"'
        one.start("before", sleeps, 0.4)
        (near,) = one.wait_for(e.TimerSet, "before")
        engine.stop(5.0) if clean else kill(engine)
        opened[0].close()

        watched = Watched(monkeypatch)
        on_disk(one, tmp_path, opened)
        assert one.result("before") == b'"slept"'
        assert watched.starts
        assert watched.starts[0] == near.due_at_ms
        until(lambda: watched.starts[-1] >= near.due_at_ms)
        assert max(watched.starts) <= far.due_at_ms
        assert len(one.bodies(e.TimerFired, "before")) == 1
        assert not one.bodies(e.TimerFired, "long")
    finally:
        one.close()


def test_a_restore_from_the_start_leaves_the_hint_at_the_first_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in slices, as a standby's is: what fired lies behind it when the partition is taken over."""
    monkeypatch.setattr(restored, "RESTORE_SLICE", 5)
    one = Rig(app, MemorySite(app.name, 1))
    try:
        one.engine()
        for number in range(20):
            one.start(f"short-{number}", sleeps, 0.01)
        one.start("long", sleeps, HOUR_S)
        for number in range(20):
            assert one.result(f"short-{number}") == b'"slept"'
        (far,) = one.wait_for(e.TimerSet, "long")
        fresh = MemoryStore(CODEC)
        ground = ground_of(one.site.log(app.name), fresh, CODEC, 0)
        restore_whole(ground)
        ground.give_up()
        assert fresh.timers_from == far.due_at_ms
    finally:
        one.close()
