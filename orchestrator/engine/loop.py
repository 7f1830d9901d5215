"""The loop of one partition.

`cycle` is the whole story in its order: decode, decide, apply, encode, commit, prove, materialise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ..core import machine
from ..core.decide.decision import Draft
from ..core.decide.step import UNDER_WAY
from ..core.events import PartitionReleased, StepHandedOver
from ..core.rows import OUTBOX, STEPS, StepRow
from ..core.values import BatchId, InputPosition
from ..errors import LogGap
from ..failpoints import failpoint
from ..log.ports import Fenced, Wire
from .announcing import announce
from .answers import Answers
from .batch import Batch
from .builder import Builder
from .clock import LogClock
from .handed_over import Begun
from .intake import Intake
from .mark import Mark
from .outbox import Outbox
from .overlay import FooterView
from .ownership import Ground
from .pace import Pace
from .queries import Queries
from .sabotage import sabotaged
from .shared import Shared
from .soundness import ClaimLost, claimed_by
from .steps import LocalSteps
from .turns import Turns

FOREVER_S = 100 * 365 * 86_400.0
BUSY_S = 30.0
CAREFUL_S = 0.2
"""For how long doubtful turns follow each other before outcomes, timers and commands get a batch."""


class PartitionLoop:
    """Works on what `ground` stands on.

    `begin` after every claim; an exception of `cycle` ends the claim (`abandon`).
    """

    def __init__(self, ground: Ground, shared: Shared) -> None:
        self.ground = ground
        self.deadline = float("inf")
        self._shared, self._options = shared, shared.options
        self.inbox = ground.inbox
        self.answers = Answers(shared.log, shared.codec, self._options.blobs)
        begun = Begun(shared.origins, shared.over, ground)
        self.steps = LocalSteps(shared.executor, self._options, shared.clock, self.answers.offer, begun)
        self.steps.unheard = self.inbox.put_report
        self._mark = Mark(self._options.marks, ground.number)
        self.turns = Turns(shared.registry, shared.guard, self._options, self._mark)
        self.builder = Builder(
            ground.overlay, shared.codec, shared.registry, ground.settings, self._options, self.steps, self.turns
        )
        self.intake = Intake(ground, self.builder, self.steps, self.turns, self._options)
        self.queries = Queries(ground.overlay, self.turns, self.answers.send, ground.settings)
        self._clock = LogClock(shared.clock)
        self._pace = Pace(self._options.batch_ms)
        self._unproven: Batch | None = None
        self._open: Batch | None = None
        self._sent_at = 0.0
        self._batch_no = 0
        self._footer_hash, self._said_upto = b"", BatchId(0, 0)
        self._proven_at = self._counted_at = self._careful_from = 0.0
        self._seen = 0
        self._resting = False

    # -- a claim's beginning -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Our claim came back: from here on the state is the log's and this owner decides."""
        ground, shared = self.ground, self._shared
        ids = shared.log.topic_ids()
        position = ground.position()
        shared.anchors.owned(ground.number, ids, position)
        self._clock = LogClock(shared.clock, position.now_ms if position else 0, ground.skew.ahead_ms)
        self._batch_no = 0
        self._footer_hash = ground.footer_hash()
        self.builder.level = ground.level()
        self._unproven = self._open = None
        self._seen = 0
        self._input: InputPosition = ground.input_position(ids)
        self._counted_at, self._careful_from = shared.clock.monotonic(), inf
        self.outbox = Outbox(shared.log, shared.codec, self.inbox, shared.sign, self._options.blobs)
        self.outbox.upto = self._said_upto = position.outbox_upto if position else BatchId(0, 0)
        self.intake.begin(self._input.offset)
        _, self.came_to = shared.log.inputs().bounds(ground.number)
        self.builder.careful.begin(ground.unclean, self._clock.now_ms(), self.came_to, self._mark.take())
        self.inbox.drop_commands()
        self.queries.copies.clear()
        shared.log.inputs().follow(ground.number, self._input.offset, self.inbox.put_commands, self.inbox.commands_lost)
        self.inbox.take_on()
        self.steps.perform(self.steps.resume(ground.overlay, self._options.instance, self.inbox.reported, shared.sent))
        self.outbox.send(ground.overlay.scan(OUTBOX, ()))
        self.builder.later.update(dict.fromkeys(self.builder.open_runs()))

    # -- the loop ----------------------------------------------------------------------------------------------------

    def cycle(self) -> None:
        """Decode, decide, apply, encode, commit, prove, materialise: one batch."""
        self._wait_for_work()
        self.deadline = self._shared.clock.monotonic() + BUSY_S
        self._answer_queries()
        batch = self._open = self._new_batch()
        failpoint("K1")
        self._decode_decide_apply(batch)
        failpoint("decided")
        if self._nothing_to_commit(batch):
            self._finish_without_commit(batch)
            return
        self._encode_footer(batch)
        if sabotaged("store_before_commit"):
            self.ground.store.write(dict(self.ground.overlay.peek_open()))
        if sabotaged("effects_before_commit"):
            self.steps.perform(batch.on_commit)
        if sabotaged("reply_before_commit"):
            self.answers.early(batch)
        failpoint("K2")
        began = self._shared.clock.monotonic()
        self._pace.took(batch.longest_turn_s)
        self.ground.lanes.begin(batch.pairs())
        failpoint("K7")
        if not sabotaged("no_gate"):
            # The gate: a transaction's end is sent only after the footer before it was read back.
            self._prove_and_materialise()
        failpoint("gate")
        self.ground.lanes.commit()
        failpoint("K9")
        self.ground.overlay.commit()
        self._unproven, self._open = batch, None
        assert batch.footer is not None
        self._footer_hash = batch.footer.hash
        self._sent_at = self._shared.clock.monotonic()
        batch.commit_s = self._sent_at - began
        self.steps.perform(batch.on_commit)

    def _wait_for_work(self) -> None:
        """Until an input is here or time asks for one; a footer that comes back meanwhile is materialised at once."""
        while True:
            if self._unproven is not None and self._pace.footer_is_near(self.inbox):
                self._prove_and_materialise()
                self._pace.rest(self.inbox)
            if self._has_input():
                return
            if self._unproven is not None:
                if not self.inbox.wait(self._options.prove_s):
                    self._prove_and_materialise()
                continue
            if self.inbox.tail:
                self._watch_for_others()
            patience = self._patience()
            self._resting = True
            found = self.inbox.wait(patience)
            self._resting = False
            if not found:
                return

    def idle_for(self) -> float | None:
        """Seconds until the partition's next durable moment if it has nothing else to do; None while it is at work."""
        with self.inbox.changed:
            if not self._resting or not self.inbox.empty():
                return None
        now_ms = self._shared.clock.wall_ms()
        moments = [(self.intake.timers.next_due_ms() - now_ms) / 1000]
        watch = self.steps.watches.next()
        if watch is not None:
            moments.append(watch - self._shared.clock.monotonic())
        nearest = min(moments)
        return nearest if nearest < FOREVER_S else float("inf")

    def _has_input(self) -> bool:
        inbox = self.inbox
        return bool(
            inbox.commands
            or inbox.reports
            or inbox.acks
            or inbox.request.release
            or inbox.slot_freed
            or inbox.trouble
            or self.intake.queries
            or self.queries.copies.waiting
            or self.builder.later
            or self.builder.careful.waiting
            or self.builder.careful.attempted
            or self._patience() <= 0
        )

    def _patience(self) -> float:
        """Seconds until time itself is an input, at most one."""
        now = self._shared.clock.monotonic()
        moments = [self.steps.watches.next(), self.queries.patience.next()]
        waits = [moment - now for moment in moments if moment is not None]
        due_ms = self.intake.timers.next_due_ms() - self._clock.now_ms()
        idle = self._proven_at + self._options.idle_footer_s - now if self._outbox_moved() else 1.0
        return max(0.0, min([*waits, due_ms / 1000, idle, 1.0]))

    def _outbox_moved(self) -> bool:
        """Since the last footer, be it proven or not."""
        return self.outbox.upto > self._said_upto

    def _new_batch(self) -> Batch:
        batch_id = BatchId(self.ground.claim_no, self._batch_no + 1)
        batch = Batch(batch_id, self._clock.now_ms(), self.intake.next_offset, self.builder.level)
        batch.bound(self._options.batch_ms, self._options.batch_bytes, self._pace.cuts)
        return batch

    def _decode_decide_apply(self, batch: Batch) -> None:
        """Fill the batch, bounded in time and bytes: under load batches grow by themselves."""
        self.intake.check()
        self._settle(batch)
        if self._careful_turn(batch):
            return
        self._careful_from = inf
        for report in batch.some(self.inbox.reports):
            self.intake.report(batch, report)
        self.intake.timers.fire(batch)
        # While outcomes are queued, no step is called late: its own may be among them.
        if not self.inbox.reports:
            self.intake.watch(batch, self._shared.clock.monotonic())
        if self.inbox.slot_freed or self.steps.wanting:
            self.inbox.slot_freed = False
            self.intake.want_slots(batch)
        self.builder.wake_later(batch)
        for command in batch.some(self.inbox.commands, lambda wire: self.intake.cuts(batch, wire)):
            self.intake.command(batch, command)
            self.inbox.took_command(command)

    def _settle(self, batch: Batch) -> None:
        acks = [self.inbox.acks.popleft() for _ in range(len(self.inbox.acks))]
        for unsent in self.outbox.settle(acks):
            self.intake.unsent(batch, unsent)

    def _careful_turn(self, batch: Batch) -> bool:
        """In careful mode: record an attempt, or take the attempted turn, alone in its batch. Others wait for few."""
        if self.builder.careful.attempted is not None:
            # The attempt must be on the log, and read back, before the turn that may end the process.
            self._prove_and_materialise()
            failpoint("careful")
        elif self.builder.careful.waiting:
            if (now := self._shared.clock.monotonic()) >= self._careful_from + CAREFUL_S:
                return False
            self._careful_from = min(self._careful_from, now)
        return self.builder.careful_turn(batch)

    def _nothing_to_commit(self, batch: Batch) -> bool:
        if not batch.empty:
            return False
        now = self._shared.clock.monotonic()
        if self.intake.next_offset > self._input.offset and now >= self._counted_at + self._options.idle_input_s:
            # Questions and duplicates: read again by a successor they cost little, deleted unread they would park it.
            return False
        return not (self._outbox_moved() and now >= self._proven_at + self._options.idle_footer_s)

    def _finish_without_commit(self, batch: Batch) -> None:
        """Duplicates and queries leave no record: their answers need only what is proven already."""
        self._open = None
        self.answers.late += batch.answers
        self.steps.perform([*batch.on_commit, *batch.on_proof])
        if self._unproven is None:
            self.answers.flush()

    def _encode_footer(self, batch: Batch) -> None:
        self._batch_no += 1
        self._input = self._input._replace(offset=self.intake.next_offset)
        self._said_upto = self.outbox.upto
        self.builder.close(batch, self._footer_hash, self._input, self._said_upto)

    # -- prove, materialise ------------------------------------------------------------------------------------------

    def _prove_and_materialise(self) -> None:
        """Wait until the footer of the committed batch came back: only then it is state and may be answered."""
        batch = self._unproven
        if batch is None:
            return
        footer_offset = self._prove(batch)
        failpoint("K11")
        self._materialise(batch, footer_offset)
        failpoint("K13")

    def _prove(self, batch: Batch) -> int:
        """The offset of the batch's footer, read back by our own read_committed tail with every record before it."""
        expected = [value for _, value in batch.pairs()]
        if sabotaged("no_footer_check"):
            self._seen = 0
            with self.inbox.changed:
                self.inbox.tail.clear()
            return self.ground.log.tail().bounds(self.ground.number)[1] - 1
        while True:
            left = self._sent_at + self._options.prove_s - self._shared.clock.monotonic()
            if not self.inbox.wait_tail(max(0.0, left)):
                raise Fenced(f"footer {batch.batch_id} did not come back within {self._options.prove_s:.0f} s")
            while self.inbox.tail:
                wire = self.inbox.tail.popleft()
                if wire.value != expected[self._seen]:
                    self._foreign(wire)
                self._seen += 1
                if self._seen == len(expected):
                    self._seen = 0
                    return wire.offset

    def _watch_for_others(self) -> None:
        """Records while nothing of ours is under way: another owner's."""
        while self.inbox.tail:
            self._foreign(self.inbox.tail.popleft())

    def _foreign(self, wire: Wire) -> None:
        if sabotaged("no_footer_check"):
            return
        if who := claimed_by(self._shared.codec, wire):
            raise ClaimLost(f"claimed by {who}; this engine stops working on it")
        raise LogGap(f"{self.ground.where} offset {wire.offset}: a record that this owner did not write")

    def _materialise(self, batch: Batch, footer_offset: int) -> None:
        ground = self.ground
        assert batch.footer is not None
        machine.apply_footer(FooterView(ground.overlay), batch.footer, footer_offset + 1, ground.settings)
        changes = ground.overlay.take_committed()
        failpoint("K12")
        ground.store.write(changes, batch.timers_from)
        self._unproven = None
        self._proven_at = self._counted_at = self._shared.clock.monotonic()
        self.turns.trim()
        self.steps.perform(batch.on_proof)
        rows = [(key, row) for (family, key), row in changes.items() if family == OUTBOX and row is not None]
        if rows:
            self.outbox.send(sorted(rows))
            failpoint("K23")
        self.answers.late += batch.answers
        self.answers.flush()
        if batch.awaited:
            self.queries.changed(batch.awaited)
        announce(self._shared, ground, batch)

    def _answer_queries(self) -> None:
        """Between batches, from proven state."""
        self.queries.expire(self._shared.clock.monotonic())
        if self.intake.queries:
            self._prove_and_materialise()
            for command in self.intake.queries:
                self.queries.answer(command, self._shared.clock.monotonic())
            self.intake.queries.clear()
        self.queries.copies.go_on()

    # -- a claim's end -----------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Nothing unproven counts: discard it, keep the inputs, end every lane. The next claim reads the log."""
        self.deadline = float("inf")
        lost = [batch for batch in (self._unproven, self._open) if batch is not None]
        self._unproven = self._open = None
        for batch in reversed(lost):
            if not sabotaged("input_ignored"):
                self.inbox.reports.extendleft(reversed(batch.reports))
        self.answers.late.clear()
        self.turns.clear()
        self.ground.give_up()
        if sabotaged("input_ignored"):
            self.ground.skip_below = self.intake.next_offset
        self.ground.renew_lanes()

    def hand_over(self, also: Sequence[Draft] = (), next_offset: int = 0, exact: bool = False) -> None:
        """Release cleanly: running steps are handed over.

        A repair records `also` and moves on to `next_offset`; back to it only if `exact`, for another commands topic.
        """
        self._shared.log.inputs().unfollow(self.ground.number)
        self._prove_and_materialise()
        self.intake.next_offset = next_offset if exact else max(self.intake.next_offset, next_offset)
        batch = self._open = self._new_batch()
        self.builder.take(batch, also)
        self.steps.give_back(self.ground.overlay)
        running = self._shared.executor.running()  # before the outcomes: none ends unseen between the two
        self.intake.report(batch, *self.inbox.hand_on())
        for key, row in list(self.ground.overlay.scan(STEPS, ())):
            if isinstance(row, StepRow) and row.state in UNDER_WAY and row.token in running:
                over = StepHandedOver(str(key[2]), row.attempt, self._options.instance, self.inbox.request.grace_ms)
                self.builder.take(batch, [Draft(str(key[0]), str(key[1]), over)])
        self.builder.take(batch, [Draft("", "", PartitionReleased(self._options.instance))])
        self._encode_footer(batch)
        self.ground.lanes.begin(batch.pairs())
        self.ground.lanes.commit()
        failpoint("K24")
        self.ground.overlay.commit()
        self._unproven, self._open = batch, None
        self._sent_at = self._shared.clock.monotonic()
        self._prove_and_materialise()
        self._answer_queries()
        self.ground.give_up()
        self.deadline = float("inf")
