"""The overlay shows what a store would hold with every change written, through any mix of writes, scans and commits."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core import machine
from orchestrator.core.apply.fold import Settings
from orchestrator.core.events import BatchFooter, Event
from orchestrator.core.rows import (
    DEDUP,
    META,
    OUTBOX,
    POSITION_KEY,
    RUNS,
    STEPS,
    TIMERS,
    ChildRow,
    DedupRow,
    ExpiryRow,
    IndexRow,
    Key,
    RunRow,
    dedup_key,
    expiry_key,
    outbox_key,
    run_key,
)
from orchestrator.core.tasks import Reply
from orchestrator.core.values import BatchId, InputPosition
from orchestrator.engine.overlay import FooterView, Overlay
from orchestrator.store import keys
from orchestrator.store.memory_store import MemoryStore

FAMILIES = (STEPS, TIMERS, OUTBOX)


def key_of(family: str, rng: random.Random) -> Key:
    """A key of the shape that the family has."""
    workflow = rng.choice(("w", "w-1", "w\x00", "wé"))
    if family == OUTBOX:
        return outbox_key(rng.randrange(1, 3), rng.randrange(9), rng.randrange(4), rng.randrange(2))
    if family == STEPS:
        return (workflow, rng.choice("rs"), f"0:{rng.randrange(12)}")
    if rng.random() < 0.5:
        return (1, rng.choice((1, 70, 2**40)), workflow, rng.choice("rs"), f"sleep|{rng.randrange(3)}")
    return (0, workflow, rng.choice("rs"), f"sleep|{rng.randrange(3)}")


@pytest.mark.parametrize("turn", range(30))
def test_a_scan_shows_every_layer_in_order(turn: int, rng: random.Random) -> None:
    overlay = Overlay(MemoryStore(Codec()))
    rng = random.Random(f"{rng.random()}/{turn}")
    model: dict[tuple[str, Key], Any] = {}
    for number in range(rng.choice((20, 400))):
        family = rng.choice(FAMILIES)
        key = key_of(family, rng)
        row = ChildRow("t", "w", "r", "abandon", number) if rng.random() < 0.6 else None
        overlay.put(family, key, row)
        model[family, key] = row
        if rng.random() < 0.1:
            prefix = key[: rng.randrange(len(key) + 1)]
            after = key_of(family, rng) if rng.random() < 0.5 else None
            if after is not None and after[: len(prefix)] != prefix:
                after = None
            assert list(overlay.scan(family, prefix, after)) == visible(model, family, prefix, after)
        if rng.random() < 0.05:
            overlay.store.write(overlay.take_committed())
            overlay.commit()
    for (family, key), row in model.items():
        assert overlay.get(family, key) == row


def visible(model: dict[tuple[str, Key], Any], family: str, prefix: Key, after: Key | None) -> list[tuple[Key, Any]]:
    """What a scan must yield: by the byte order of the store's keys."""
    found = [
        (key, row)
        for (name, key), row in model.items()
        if name == family and row is not None and key[: len(prefix)] == prefix
    ]
    found.sort(key=lambda item: keys.encode(item[0]))
    return [item for item in found if after is None or keys.encode(item[0]) > keys.encode(after)]


def test_a_footer_looks_at_sent_rows_once() -> None:
    """A restore folds thousands of footers into one layer: no footer walks over what earlier ones deleted."""

    class Counting(Overlay):
        walked = 0

        def scan(self, family: str, prefix: Key, after: Key | None = None) -> Any:
            self.walked += len(self._open.within(family, prefix, after))
            return super().scan(family, prefix, after)

    codec = Codec()
    overlay = Counting(MemoryStore(codec))
    batches = 200
    for number in range(1, batches + 1):
        overlay.put(OUTBOX, outbox_key(1, number, 0, 0), IndexRow("w", number))
        body = BatchFooter(b"", b"", 1, InputPosition("c", "t", 0, 0), number, BatchId(1, number - 1), 1)
        footer = codec.seal(Event("", "", 0, body, claim_no=1, batch_no=number))
        machine.apply_footer(overlay, footer, number, Settings("x"))
    assert overlay.get(META, POSITION_KEY).outbox_upto == BatchId(1, batches - 1)
    assert overlay.walked <= 2 * batches
    assert [key[1] for key, _ in overlay.scan(OUTBOX, ())] == [batches]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_footer_sees_nothing_of_the_batch_that_is_built_behind_it(is_open: bool) -> None:
    """Whether an answer is kept depends on its run; a restore folds the batch that changes that after the footer."""
    overlay = Overlay(MemoryStore(Codec()))
    run = RunRow("t", 1, "running", 1, b"", "", 0)
    states = (run, run._replace(status="completed"))
    before, after = states if is_open else reversed(states)
    answer = dedup_key("w", "sender/r/4/0")
    overlay.put(RUNS, run_key("w", "r"), before)
    overlay.put(DEDUP, answer, DedupRow(Reply("sender/r/4/0", "w", "r", "accepted"), 5))
    overlay.put(DEDUP, expiry_key(5, "w", "sender/r/4/0"), ExpiryRow("sender/r/4/0"))
    overlay.commit()
    overlay.put(RUNS, run_key("w", "r"), after)
    body = BatchFooter(b"", b"", 1, InputPosition("c", "t", 0, 0), 10, BatchId(1, 0), 1)
    footer = Codec().seal(Event("", "", 0, body, claim_no=1, batch_no=1))
    machine.apply_footer(FooterView(overlay), footer, 2, Settings("x", dedup_horizon_ms=100))
    overlay.store.write(overlay.take_committed())
    assert (overlay.store.get(DEDUP, answer) is not None) == is_open
    due = [key[1] for key, _ in overlay.store.scan(DEDUP, (1,))]
    assert due == ([110] if is_open else [])
