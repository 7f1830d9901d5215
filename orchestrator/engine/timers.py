"""Durable timers: which are due by the log's clock, and where the next look at them begins."""

from __future__ import annotations

import heapq
import itertools
import time

from ..core import machine
from ..core.commands import FireTimer
from ..core.rows import NEVER_MS, STEPS, TIMERS, Key, StepRow, TimerRow, step_key
from ..failpoints import failpoint
from .batch import AT_LEAST, Batch
from .builder import Builder
from .options import EngineOptions
from .ownership import Ground
from .sabotage import sabotaged
from .steps import LocalSteps, Stop
from .turns import Turns

LOOK_AGAIN_MS = 5
"""How soon what judges silence is looked at again when it waits for the reader of commands: nothing else says that it
came on."""


class Timers:
    """The due timers of one partition, fired into its batches."""

    def __init__(
        self, ground: Ground, builder: Builder, steps: LocalSteps, turns: Turns, options: EngineOptions
    ) -> None:
        self._ground = ground
        self._builder = builder
        self._steps = steps
        self._turns = turns
        self._options = options
        self._barriers: dict[str, int] = {}
        self._asked: int | None = None
        self._spent: set[Key] = set()
        self._left: list[Key] = []
        self._next_ms = 0
        self._again_ms = 0
        self._held_at = 0

    def begin(self) -> None:
        """A claim was won: what the state holds is looked at from the hint on that was kept with it."""
        self._barriers.clear()
        self._spent.clear()
        self._left.clear()
        self._again_ms = 0
        self._next_ms = self._ground.store.timers_from
        self._ground.overlay.earliest_timer_ms = NEVER_MS

    def next_due_ms(self) -> int:
        """When the next durable timer is due, by the log's clock."""
        return max(self._again_ms, min(self._next_ms, self._builder.overlay.earliest_timer_ms))

    def fire(self, batch: Batch) -> None:
        """Fire what is due by the log's clock."""
        self.is_due_now()
        overlay = self._builder.overlay
        now_ms = batch.now_ms + (60_000 if sabotaged("timer_early") else 0)
        start = min(self._next_ms, overlay.earliest_timer_ms)
        waits = batch.now_ms < self._again_ms and batch.next_offset == self._held_at
        if start <= now_ms and not waits:
            overlay.earliest_timer_ms = NEVER_MS
            self._next_ms = self._look(batch, start, now_ms)
        batch.timers_from = min(self._next_ms, overlay.earliest_timer_ms, self._lowest_left())

    def _look(self, batch: Batch, start: int, now_ms: int) -> int:
        """Fire from `start` on, as many as a batch takes; where the next look begins."""
        self._again_ms = fired = 0
        held = NEVER_MS
        due = self._due(start)
        while due:
            for key, row in due:
                due_ms = int(key[1])
                if due_ms > now_ms:
                    return min(due_ms, held)
                failpoint("K19")
                if self._builder.overlay.get(TIMERS, key) is None:
                    # One that fired before it in this batch has cancelled it.
                    continue
                if row.kind in machine.SILENCE and self._not_yet(row, "|".join(map(str, key[1:])), batch):
                    held = min(held, due_ms)
                    self._again_ms, self._held_at = batch.now_ms + LOOK_AGAIN_MS, batch.next_offset
                    continue
                self._fire(batch, key, row)
                fired += 1
                if fired >= AT_LEAST and time.perf_counter() > batch.no_turn_after:
                    return min(due_ms, held)
            if len(due) < self._options.timers_per_batch:
                return held
            if fired or time.perf_counter() > batch.no_turn_after:
                return min(int(due[-1][0][1]), held)
            # Nothing but what is held: those behind are due too, in the same millisecond even.
            due = self._due(*due[-1][0][1:])
        return held

    def _due(self, *after: int | str) -> list[tuple[Key, TimerRow]]:
        """The next timers, as many as a batch takes. Those that meant nothing before take nobody's place."""
        rows = self._builder.overlay.scan(TIMERS, (1,), after=(1, *after))
        return list(
            itertools.islice((one for one in rows if one[0] not in self._spent), self._options.timers_per_batch)
        )

    def _fire(self, batch: Batch, key: Key, row: TimerRow) -> None:
        overlay, due_ms = self._builder.overlay, int(key[1])
        fire = FireTimer(row.run_id, row.kind, row.ref, due_ms)
        drafts = machine.fire(overlay, row.workflow_id, fire, self._builder.context(batch))
        silent = overlay.get(STEPS, step_key(row.workflow_id, row.run_id, row.ref))
        if isinstance(silent, StepRow) and row.kind in machine.SILENCE:
            if row.kind == "schedule_to_start" and self._steps.begun(silent.token):
                drafts = []
            batch.on_proof += [Stop(silent.token)] if drafts else []
        if not drafts:
            self._spent.add(key)
        self._options.observer.timer(self._ground.number, (batch.now_ms - due_ms) / 1000)
        batch.trace = self._turns.trace_of(overlay, (row.workflow_id, row.run_id))
        self._builder.take(batch, drafts)
        batch.trace = ""
        if overlay.get(TIMERS, key) is not None:
            heapq.heappush(self._left, key)

    def _lowest_left(self) -> int:
        """When the first timer was due that was fired and is still there: the next owner has to look at it again."""
        while self._left and self._builder.overlay.get(TIMERS, self._left[0]) is None:
            heapq.heappop(self._left)
        return int(self._left[0][1]) if self._left else NEVER_MS

    def _not_yet(self, row: TimerRow, name: str, batch: Batch) -> bool:
        """Whether a timer that judges silence has to be looked at again: a report may be there, or a debugger."""
        if self._ground.inbox.reports:
            return True
        step = self._builder.overlay.get(STEPS, step_key(row.workflow_id, row.run_id, row.ref))
        return self.unproven(name, batch) or (isinstance(step, StepRow) and self._steps.held(step.token))

    def is_due_now(self) -> None:
        """What is found due from here on is judged by an end of the commands that is asked after this."""
        self._asked = None

    def gone(self, name: str) -> None:
        """What was judged is there no more."""
        self._barriers.pop(name, None)

    def unproven(self, name: str, batch: Batch) -> bool:
        """Whether commands that arrived before the due time of something that judges silence may still wait.

        A result among them wins. What was read and what was decided differ by what waits in the inbox, and by offsets
        that hold no command. The end is asked once for all that is due at a time.
        """
        if sabotaged("timer_before_report"):
            return False
        inputs, number = self._ground.log.inputs(), self._ground.number
        barrier = self._barriers.get(name)
        if barrier is None:
            if self._asked is None:
                self._asked = inputs.bounds(number)[1]
            barrier = self._barriers[name] = self._asked
        # In this order: whatever lies below what was reached is in the inbox by then.
        read = inputs.reached(number) >= barrier and not self._ground.inbox.commands
        if batch.next_offset < barrier and not read:
            return True
        del self._barriers[name]
        return False
