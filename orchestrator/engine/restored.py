"""What an owner stands on: the rows of its partition, and how they are brought to where the log is.

Nothing is claimed here: the old owner may work on meanwhile (design.md §4).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

from ..codec.records import Codec, event_hash
from ..core import machine
from ..core.apply.fold import Settings
from ..core.events import Event
from ..core.levels import in_force
from ..core.replay import NO_FOOTER, AcceptingAssembler
from ..core.rows import CLAIM_KEY, META, NEVER_MS, POSITION_KEY, TIMERS, ClaimRow, PositionRow, due_of
from ..core.values import BatchId, InputPosition
from ..core.witness import Note, read_note
from ..errors import KafkaUnavailable, LogReplaced, UndecodableRecord
from ..failpoints import failpoint
from ..log.ports import Log, Tail, TopicIds, Wire
from ..store.rows import Store
from .clock import SYSTEM_CLOCK, Clock
from .inbox import Inbox
from .options import EngineOptions
from .overlay import Overlay
from .restoring import state_or_checkpoint
from .sabotage import sabotaged
from .skew import Skew
from .soundness import (
    HangingTransaction,
    Repair,
    check_bounds,
    check_level,
    identity,
    not_mine,
    other_log,
    rewritten,
)

log = logging.getLogger(__name__)

RESTORE_SLICE = 4_000
NEAR = 1_000
NEAR_WAIT_S = 1.0
FOOTER_S = 1.0
"""How long the state's last footer is waited for before another reader is asked whether it is there."""


class Restored:
    """The partition's number, its log, store and overlay, and where the log was read to."""

    tail_room = (50_000, 5_000)
    """Beyond how many records that wait to be folded their reader is paused, and below how many it goes on."""

    def __init__(
        self,
        number: int,
        log_: Log,
        codec: Codec,
        store: Store,
        inbox: Inbox,
        options: EngineOptions,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.number = number
        self.log = log_
        self.codec = codec
        self.store = store
        self.overlay = Overlay(store)
        self.inbox = inbox
        self.options = options
        self.settings = Settings(log_.app, options.dedup_horizon_ms, options.retention_ms)
        self.lanes = log_.lanes(number)
        self.claim_no = 0
        self.unclean = False
        self.skew = Skew(clock, options.skew_ms)
        self._tail_paused = False
        self._folds = True
        self.restored_events = 0
        self.restored_s = 0.0
        """Seconds spent folding and writing, without waiting for the broker."""
        self.skip_below = 0
        """Sabotage only (`input_ignored`): commands below this offset are not read again after a failure."""
        self.ids: TopicIds | None = None
        """The topics that the last take-over began with."""
        self.recorded = 0
        """The partition count that commands are routed by, as this log has it; 0 before the first claim."""
        self.found_with = 0
        """`topics grow` only: the partition count to claim a new partition with."""
        self.where = f"{log_.app}.events/{number}"
        self.noted: Note | None = None
        """The newest proven footer, as a group offset noted it before the log was read."""
        self.repair: Repair | None = None
        """`partition repair` only: the log is accepted as it is."""
        self.damaged = ""
        """What a read of the directory found: it is moved aside before the next take-over."""
        self.adopts = False
        """`topics adopt` only: the same log under other topic ids is accepted."""
        self.assembler = AcceptingAssembler(self.where)

    # -- what the log says so far ------------------------------------------------------------------------------------

    def position(self) -> PositionRow | None:
        """The last footer that the state reflects."""
        row: PositionRow | None = self.overlay.get(META, POSITION_KEY)
        return row

    def claim_row(self) -> ClaimRow | None:
        """The last claim found."""
        row: ClaimRow | None = self.overlay.get(META, CLAIM_KEY)
        return row

    def footer_hash(self) -> bytes:
        """What the next footer chains to."""
        position = self.position()
        return position.footer_hash if position else NO_FOOTER

    def level(self) -> int:
        """The feature level in force: what the next owner writes."""
        return in_force(self.position())

    def noted_batch(self) -> BatchId:
        """The newest batch that a group offset notes now; (0, 0) if none."""
        note = read_note(self.log.noted(self.number))
        return note.batch if note is not None else BatchId(0, 0)

    def noted_topics(self) -> str:
        """The events topic that the state was folded from, as the directory notes it; "" if it does not."""
        noted = self.store.hint("identity")
        if noted is None:
            return ""
        found = json.loads(noted)
        return f"{found['events']} of {found['cluster']}"

    def input_position(self, ids: TopicIds) -> InputPosition:
        """Where to go on reading commands; the log's start when no footer says otherwise."""
        position = self.position()
        if position is not None:
            at = position.position._replace(offset=max(position.position.offset, self.skip_below))
            return at._replace(cluster_id=ids.cluster_id, topic_id=ids.commands) if self.adopts else at
        start, _ = self.log.inputs().bounds(self.number)
        return InputPosition(ids.cluster_id, ids.commands, self.number, start)

    # -- restoring ---------------------------------------------------------------------------------------------------

    def tail(self) -> Tail:
        """By whom events are read."""
        return self.log.tail()

    def restore(self) -> TopicIds:
        """Fold what is visible now; nothing is claimed. Raises LogReplaced, LogGap, HangingTransaction."""
        if self.damaged:
            self.store.set_aside(f"{self.where}: {self.damaged}")
            self.damaged = ""
        ids = self.ids = self.log.topic_ids()
        self._check_directory(ids)
        if not self.claim_no:
            # Before anything is read: what was noted by now must be on the log that is read from here on.
            self.noted = read_note(self.log.noted(self.number))
        self._follow()
        _, end = self.tail().bounds(self.number)
        self._restore_near(end)
        # A partition whose count is not known yet: its first claim says it, if there is one. A gap may be set aside.
        while end and (self.claim_row() is None or self.assembler.gap) and self.inbox.wait_tail(NEAR_WAIT_S):
            self._fold_slice()
        return ids

    def _check_directory(self, ids: TopicIds) -> None:
        """A directory of another partition or format is set aside; of another log, it is never continued."""
        noted = self.store.hint("identity")
        if noted is not None:
            found = json.loads(noted)
            if why := not_mine(self.where, found, self.log.app, self.number):
                self.store.set_aside(why)
            elif (found["cluster"], found["events"]) != (ids.cluster_id, ids.events) and self.position():
                if self.adopts:
                    return
                raise LogReplaced(other_log(self.where, self.number, found, ids))
        self._note_directory(ids)

    def _note_directory(self, ids: TopicIds) -> None:
        self.store.set_hint("identity", identity(self.log.app, self.number, ids))

    def _follow(self) -> None:
        """Read events from the last footer on; that footer is compared first."""
        self.overlay.discard()
        start, end = self.tail().bounds(self.number)
        position = state_or_checkpoint(self, (start, end))
        check_level(self.where, position)
        at = position.next_offset - 1 if position else start
        if sabotaged("store_trusted"):
            at = min(at, end)
        check_bounds(self.where, self.number, at if position else -1, (start, end))
        last = position.batch if position else None
        self.assembler = AcceptingAssembler(self.where, self.footer_hash(), last, shown=at if position else -1)
        claim = self.claim_row()
        if claim is not None:
            self.assembler.claim_no = max(self.assembler.claim_no, claim.claim_no)
        self.tail().unfollow(self.number)
        with self.inbox.changed:
            self.inbox.tail.clear()
        self._tail_paused, self._folds = False, True
        self.tail().follow(self.number, at, self._hear)
        if position is not None and not sabotaged("store_trusted"):
            first = self._footer_at(at)
            if first.offset != at or event_hash(first.key, first.value) != position.footer_hash:
                raise LogReplaced(
                    f"{self.where} offset {at}: not the footer that the state was folded from: the log was cut and"
                    f" written again. See `orchestrator partition repair {self.number}`."
                )

    def _footer_at(self, at: int) -> Wire:
        """The first record from the state's last footer on, which is visible if it is there: nothing open lies below.

        Raises LogReplaced when there is none: the end of its transaction was lost, and it was aborted since.
        """
        if not self.inbox.wait_tail(FOOTER_S) and self._ends_before(at):
            raise LogReplaced(
                f"{self.where} offset {at}: the footer that the state was folded from is not there any more, nor"
                f" anything behind it: the log was cut. See `orchestrator partition repair {self.number}`."
            )
        return self._next()

    def _ends_before(self, at: int) -> bool:
        """Whether a reader that is told where the log ends passes `at` and meets nothing: silence alone is no proof."""
        seen: list[Wire] = []
        reader, deadline = self.log.standby(), time.monotonic() + self.options.hang_s
        reader.follow(self.number, at, seen.extend)
        try:
            while reader.reached(self.number) <= at and not seen and time.monotonic() < deadline:
                if self.inbox.wait_tail(FOOTER_S / 20):
                    return False
            return reader.reached(self.number) > at and not seen
        finally:
            reader.unfollow(self.number)

    def _restore_near(self, end: int) -> None:
        """Fold what is visible before any lane is initialised: the old owner works on meanwhile."""
        position = self.position()
        at = position.next_offset if position else 0
        # A long aborted batch at the end is never seen: no more waiting than for what comes.
        while end - at > NEAR and self.inbox.wait_tail(NEAR_WAIT_S):
            at = self._fold_slice().offset + 1
        # The rest ends in transaction markers that no reader sees: read until nothing more comes at once.
        while self.inbox.wait_tail(0.02 if at < end else 0.0):
            at = self._fold_slice().offset + 1

    def _hear(self, wires: Sequence[Wire]) -> None:
        """From the tail's thread: a restore folds slower than the broker sends, and the queue is bounded."""
        self.inbox.put_tail(wires)
        if not self._folds or len(self.inbox.tail) <= self.tail_room[0]:
            return
        with self.inbox.changed:  # A reader that is about to be paused is not resumed before.
            if self._folds and not self._tail_paused:
                self._tail_paused = True
                self.tail().pause(self.number)

    def _let_in(self) -> None:
        if self._tail_paused and len(self.inbox.tail) < self.tail_room[1]:
            self._resume_tail()

    def _hear_all(self) -> None:
        """From now on its owner's own batches come back, each as a whole: nobody would resume their reader."""
        with self.inbox.changed:
            self._folds = False
        self._resume_tail()

    def _resume_tail(self) -> None:
        with self.inbox.changed:
            if self._tail_paused:
                self._tail_paused = False
                self.tail().resume(self.number)

    def _fold_slice(self, most: int = 0) -> Wire:
        """Fold up to a slice of records (or `most`), one write batch; returns the last record read."""
        wire = self._next()
        began = time.monotonic()
        self._fold(wire)
        for _ in range(most or RESTORE_SLICE):
            if not self.inbox.tail:
                break
            wire = self.inbox.tail.popleft()
            self._fold(wire)
        self._write_restored()
        self.restored_s += time.monotonic() - began
        return wire

    def _write_restored(self) -> None:
        first = self._first_due_ms() if self.overlay.touches(TIMERS) else 0
        self.store.write(self.overlay.take_open(), first)

    def _first_due_ms(self) -> int:
        """When the first timer is due, for the hint: slice by slice, what fired long ago is walked once."""
        begin = min(self.store.timers_from, self.overlay.earliest_timer_ms)
        first = next(self.overlay.scan(TIMERS, (1,), after=(1, begin)), None)
        self.overlay.earliest_timer_ms = NEVER_MS
        return due_of(first[0]) if first else NEVER_MS

    def _fold(self, wire: Wire) -> Event | None:
        """Fold one record; returns its event if it is a claim."""
        failpoint("K16")
        try:
            record = self.codec.decode_event(wire.key, wire.value)
        except UndecodableRecord as error:
            self.assembler.broken(wire.offset, str(error))
            return None
        batch = self.assembler.feed(record, wire.offset)
        if batch is None:
            return None
        if batch.is_claim:
            machine.apply(self.overlay, batch.footer, self.settings)
            return batch.footer.event
        for event in batch.records:
            machine.apply(self.overlay, event, self.settings)
        if problem := rewritten(self.where, wire.offset, self.noted, batch):
            if self.repair is None:
                raise LogReplaced(f"{problem} See `orchestrator partition repair {self.number}`.")
            self.repair.rewritten = problem
        machine.apply_footer(self.overlay, batch.footer, wire.offset + 1, self.settings)
        self.restored_events += len(batch.records)
        return None

    def _next(self) -> Wire:
        """The next record read back. Raises HangingTransaction, KafkaUnavailable when none comes for `hang_s`."""
        self._let_in()
        if not self.inbox.wait_tail(self.options.hang_s):
            if refused := self.tail().refused():
                raise KafkaUnavailable(f"{self.where}: {refused}")
            raise HangingTransaction(
                f"{self.where}: nothing could be read for {self.options.hang_s:.0f} s although records must"
                " follow: an open transaction hides them. `orchestrator doctor` names it, and what ends it; see"
                " docs/runbook.md, a hung transaction."
            )
        return self.inbox.tail.popleft()
