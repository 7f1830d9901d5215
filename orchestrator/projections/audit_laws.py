"""Laws of histories, as a stream: chains (I4), one result a step (I1), endings (I2), timers (I6), inputs (I8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from ..core import events as e, ids
from ..core.apply.fold import Settings
from ..core.events import BatchFooter, Event, Record
from ..core.values import InputPosition

NO_HASH = b"\x00" * 32
OUTCOMES_KEPT = 200_000
"""How many answered commands are remembered: an outcome twice within so many is found."""
HORIZON_MS = Settings("").dedup_horizon_ms
"""For how long an id means one command, by the log's clock: engines decide anew what comes after it."""

_Result = e.StepCompleted | e.StepFailed | e.StepCancelled
_ChildResult = e.ChildCompleted | e.ChildFailed

_Rule = Callable[[Any, Any, Event, int], None]

Report = Callable[[int, bool, str], None]
"""(offset, whether a chain is broken, what was found)."""


class Head:
    """An open run: where its chain stands and what it waits for. `adopted`: it began before the range.

    `waits` has steps and children by their ids behind an "s" or a "c", timers behind a "t" with the moment they are
    due. `run`, `prefix` and `lead` are for a reader that foretells bytes (`audit_chain`).
    """

    __slots__ = ("adopted", "hash", "lead", "prefix", "run", "seq", "waits")

    def __init__(self, adopted: bool) -> None:
        self.seq = 0
        self.hash = NO_HASH
        self.adopted = adopted
        self.waits: dict[str, int] = {}
        self.run = ("", "")
        self.prefix = b""
        self.lead = b""


class Laws:
    """The laws of one partition. `whole`: the range starts at the log's start, so every run begins in it."""

    def __init__(self, report: Report, *, whole: bool, full: bool) -> None:
        self.whole = whole
        self.runs = 0
        self.closed = 0
        self.results = 0
        self._report = report
        self._full = full
        self.open: dict[tuple[str, str], Head] = {}
        self._outcomes: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()
        self._position: InputPosition | None = None
        self._now_ms = 0
        self._reflected: list[tuple[int, int, int]] = []
        self._rules: Mapping[type, _Rule] = {
            e.StepScheduled: self._scheduled,
            e.StepCompleted: self._result,
            e.StepFailed: self._result,
            e.StepCancelled: self._result,
            e.ChildScheduled: self._child,
            e.ChildCompleted: self._child_result,
            e.ChildFailed: self._child_result,
            e.TimerSet: self._timer,
            e.TimerFired: self._timer_end,
            e.TimerCancelled: self._timer_end,
        }

    def event(self, record: Record, offset: int) -> None:
        """One visible event."""
        event = record.event
        cause = event.cause
        if cause.offset >= 0:
            self._reflected.append((cause.partition, cause.offset, offset))
        head = self._of_run(record, offset) if event.seq else None
        if self._full:
            self.lived(event, head, offset)

    def lived(self, event: Event, head: Head | None, offset: int) -> None:
        """What level full asks of an event that follows from those before it; `head` is its run's, if it has one."""
        if event.cause.answers:
            self._outcome(event, offset)
        if head is not None:
            self._progress(head, event, offset)

    def footer(self, record: Record, offset: int) -> None:
        """The footer of the events before it: the input position and the log's clock."""
        body = record.event.body
        assert isinstance(body, BatchFooter)
        before, position = self._position, body.position
        if before is not None and before.topic_id == position.topic_id and position.offset < before.offset:
            self._law(offset, f"the input position goes back from {before.offset} to {position.offset} (I8)")
        for partition, reflected, at in self._reflected:
            if partition == position.partition and reflected >= position.offset:
                self._law(at, f"reflects command offset {reflected}, its footer's position is {position.offset} (I8)")
        if body.now_ms < self._now_ms:
            self._law(offset, f"the log's clock goes back from {self._now_ms} to {body.now_ms}")
        self._reflected.clear()
        self._position, self._now_ms = position, max(body.now_ms, self._now_ms)

    @property
    def input_partition(self) -> int:
        """The partition whose commands the footers' position is about; -1: there was no footer."""
        return self._position.partition if self._position is not None else -1

    def moved(self, offset: int, now_ms: int) -> bool:
        """A footer of the same input as the last one: whether neither its position nor its clock goes back. They are
        where it says then.
        """
        before = self._position
        if before is None or offset < before.offset or now_ms < self._now_ms:
            return False
        self._position, self._now_ms = before._replace(offset=offset), now_ms
        return True

    def _law(self, offset: int, what: str) -> None:
        self._report(offset, False, what)

    def _outcome(self, event: Event, offset: int) -> None:
        key = (event.workflow_id, event.cause.command_id)
        before = self._outcomes.get(key)
        if before is not None and event.recorded_at_ms - before[1] < HORIZON_MS:
            self._law(offset, f"command {key[1]} of {key[0]} has an outcome at offset {before[0]} already (I2)")
            return
        self._outcomes[key] = (offset, event.recorded_at_ms)
        self._outcomes.move_to_end(key)
        if len(self._outcomes) > OUTCOMES_KEPT:
            self._outcomes.popitem(last=False)

    # -- runs --------------------------------------------------------------------------------------------------------

    def _of_run(self, record: Record, offset: int) -> Head:
        """The run's head, moved to this event."""
        event = record.event
        key = (event.workflow_id, event.run_id)
        head = self.open.get(key)
        if head is None:
            head = self.open[key] = self._new(event, offset)
        elif event.seq != head.seq + 1:
            self._report(offset, True, f"{_where(event)}: the event before it has seq {head.seq} (I4)")
        elif event.prev_hash != head.hash:
            self._report(offset, True, f"{_where(event)}: its prev_hash is not the hash of the event before it (I4)")
        elif isinstance(event.body, e.RunStarted):
            self._report(offset, True, f"{_where(event)}: its run has begun already (I4)")
        head.seq, head.hash = event.seq, record.hash
        if isinstance(event.body, e.TERMINAL):
            del self.open[key]
            self.closed += 1
        return head

    def _new(self, event: Event, offset: int) -> Head:
        begins = isinstance(event.body, e.RunStarted)
        self.runs += begins
        if begins and (event.seq != 1 or event.prev_hash != NO_HASH):
            self._report(offset, True, f"{_where(event)}: a run begins with seq 1 and no hash before it (I4)")
        elif not begins and self.whole:
            self._report(
                offset, True, f"{_where(event)}: its run has ended, or its beginning is not on the log (I2, I4)"
            )
        return Head(adopted=not begins)

    def _progress(self, head: Head, event: Event, offset: int) -> None:
        rule = self._rules.get(type(event.body))
        if rule is not None:
            rule(head, event.body, event, offset)

    def _scheduled(self, head: Head, body: e.StepScheduled, event: Event, offset: int) -> None:
        key = "s" + ids.step_id(body.path, body.n)
        if key in head.waits:
            self._law(offset, f"{_where(event)}: step {key[1:]} was scheduled before")
        head.waits[key] = 0

    def _result(self, head: Head, body: _Result, event: Event, offset: int) -> None:
        self.results += 1
        if head.waits.pop("s" + body.step, None) is None and not head.adopted:
            what = f"step {body.step} has its result already, or was never scheduled (I1)"
            self._law(offset, f"{_where(event)}: {what}")

    def _child(self, head: Head, body: e.ChildScheduled, event: Event, offset: int) -> None:
        head.waits["c" + ids.step_id(body.path, body.n)] = 0

    def _child_result(self, head: Head, body: _ChildResult, event: Event, offset: int) -> None:
        if head.waits.pop("c" + body.child, None) is None and not head.adopted:
            what = f"child {body.child} has its outcome already, or was never scheduled (I1)"
            self._law(offset, f"{_where(event)}: {what}")

    def _timer(self, head: Head, body: e.TimerSet, event: Event, offset: int) -> None:
        head.waits["t" + ids.step_id(body.path, body.n)] = body.due_at_ms

    def _timer_end(self, head: Head, body: e.TimerFired | e.TimerCancelled, event: Event, offset: int) -> None:
        due = head.waits.pop("t" + body.timer, None)
        if due is None and head.adopted:
            return
        if due is None:
            self._law(offset, f"{_where(event)}: timer {body.timer} has ended already, or was never set (I6)")
        elif isinstance(body, e.TimerFired) and event.recorded_at_ms < due:
            self._law(offset, f"{_where(event)}: timer {body.timer} due at {due} fired at {event.recorded_at_ms} (I6)")


def _where(event: Event) -> str:
    return f"{event.workflow_id}/{event.run_id} seq {event.seq} ({type(event.body).__name__})"
