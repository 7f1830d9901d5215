"""Every row of a state, and the state that a log means: what the oracle compares (I3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.codec.records import Codec
from orchestrator.core import machine
from orchestrator.core.apply.fold import Settings
from orchestrator.core.events import BatchFooter, PartitionClaimed
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.rows import CLAIM_KEY, FAMILIES, META, POSITION_KEY
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
    """A state beside what the log means up to the same footer, and the same claim."""
    rebuilt = MemoryStore(codec)
    fold(rebuilt, codec, settings, _up_to(store, codec, records))
    return Dumps(dump(store), dump(rebuilt))


def _up_to(store: Store, codec: Codec, records: Iterable[RawRecord]) -> Iterator[RawRecord]:
    """What the state has seen: batches up to its footer, and then claims up to its own."""
    position, claim = store.get(META, POSITION_KEY), store.get(META, CLAIM_KEY)
    for raw in records:
        if position is None or raw.offset >= position.next_offset:
            event = codec.decode_event(raw.key, raw.value).event
            if isinstance(event.body, BatchFooter):
                return
            if not isinstance(event.body, PartitionClaimed) or claim is None or event.claim_no > claim.claim_no:
                continue
        yield raw
