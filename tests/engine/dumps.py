"""Every row of a state, and the state that a log means: what the oracle compares (I3)."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.codec.records import Codec
from orchestrator.core import machine
from orchestrator.core.apply.fold import Settings
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.rows import FAMILIES, META, POSITION_KEY
from orchestrator.engine.overlay import Overlay
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import Store
from tests.oracle.oracle import Dumps
from tests.oracle.raw import RawRecord


def dump(store: Store) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every family's rows in the order of keys; local hints are not state."""
    return {family: list(store.raw(family)) for family in FAMILIES}


def fold(store: Store, codec: Codec, settings: Settings, records: Iterable[RawRecord]) -> None:
    """Bring an empty store to where the records of its partition lead."""
    overlay, assembler = Overlay(store), BatchAssembler("p")
    for raw in records:
        batch = assembler.feed(codec.decode_event(raw.key, raw.value), raw.offset)
        if batch is None:
            continue
        if batch.is_claim:
            machine.apply(overlay, batch.footer, settings)
            continue
        for record in batch.records:
            machine.apply(overlay, record, settings)
        machine.apply_footer(overlay, batch.footer, raw.offset + 1, settings)
    store.write(overlay.take_open())


def dumps(store: Store, codec: Codec, settings: Settings, records: Iterable[RawRecord]) -> Dumps:
    """A state beside what the log means up to the same footer."""
    position = store.get(META, POSITION_KEY)
    end = position.next_offset if position is not None else 0
    rebuilt = MemoryStore(codec)
    fold(rebuilt, codec, settings, [raw for raw in records if raw.offset < end])
    return Dumps(dump(store), dump(rebuilt))
