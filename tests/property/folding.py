"""The state that a log means, folded anew from its first record, and its hash at every prefix."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.codec.records import Codec
from orchestrator.core import machine
from orchestrator.core.apply.fold import Settings
from orchestrator.core.events import Event
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.rows import CLAIM_KEY, META, POSITION_KEY, ClaimRow, PositionRow
from orchestrator.engine.overlay import Overlay
from orchestrator.store import keys
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import Changes
from tests.oracle.raw import RawRecord

Place = tuple[int, int, str]
"""Offset behind the last footer, number and nonce of the last claim: two claims may have one number."""

States = dict[Place, int]
"""Hashes by place."""


def place_of(store: MemoryStore) -> Place:
    """Where in the log a state stands."""
    position: PositionRow | None = store.get(META, POSITION_KEY)
    claim: ClaimRow | None = store.get(META, CLAIM_KEY)
    return position.next_offset if position else 0, claim.claim_no if claim else 0, claim.nonce if claim else ""


class StateHash:
    """The sum of the hashes of all rows, byte for byte; kept up write by write."""

    def __init__(self) -> None:
        self.value = 0

    def before(self, data: Mapping[str, Mapping[bytes, bytes]], changes: Changes) -> None:
        """Take out what the changes replace."""
        self._add(data, changes, -1)

    def after(self, data: Mapping[str, Mapping[bytes, bytes]], changes: Changes) -> None:
        """Put in what they left."""
        self._add(data, changes, 1)

    def _add(self, data: Mapping[str, Mapping[bytes, bytes]], changes: Changes, sign: int) -> None:
        for family, key in changes:
            encoded = keys.encode(key)
            value = data[family].get(encoded)
            if value is not None:
                named = b"%b\0%d\0%b%b" % (family.encode(), len(encoded), encoded, value)
                digest = hashlib.blake2b(named, digest_size=16).digest()
                self.value = (self.value + sign * int.from_bytes(digest, "big")) % (1 << 128)


def fold(codec: Codec, settings: Settings, records: Sequence[RawRecord]) -> tuple[States, list[Event]]:
    """The hash of the state at every footer and claim, and every visible event."""
    store, state, found = MemoryStore(codec), StateHash(), States()
    visible: list[Event] = []
    overlay = Overlay(store)
    assembler = BatchAssembler("the fold")
    for raw in records:
        batch = assembler.feed(codec.decode_event(raw.key, raw.value), raw.offset)
        if batch is None:
            continue
        if batch.is_claim:
            machine.apply(overlay, batch.footer, settings)
        else:
            for event in batch.records:
                machine.apply(overlay, event, settings)
                visible.append(event.event)
            machine.apply_footer(overlay, batch.footer, raw.offset + 1, settings)
        changes: dict[Any, Any] = overlay.take_open()
        state.before(store._data, changes)
        store.write(changes)
        state.after(store._data, changes)
        found[place_of(store)] = state.value
    return found, visible
