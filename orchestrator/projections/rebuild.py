"""`audit replay`: what a partition's state was, rebuilt from its topic alone, at its end or at a moment before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..codec.records import Codec
from ..core.apply.fold import Settings
from ..core.events import BatchFooter, Event, Record
from ..core.replay import NO_FOOTER, AcceptingAssembler, Batch
from ..core.rows import (
    HISTORY,
    META,
    ROUTING_KEY,
    RUNS,
    STEPS,
    TIMERS,
    CurrentRow,
    RunRow,
    StepRow,
    current_key,
    run_key,
)
from ..core.values import BatchId
from ..engine.views import event_view, run_view, step_view, value_view
from ..errors import UndecodableRecord, WorkflowNotFound
from ..log.ports import Wire
from ..store.rows import Store, state_hash
from .folding import StateFold

Json = dict[str, Any]


class Moment(NamedTuple):
    """How far to read: records up to `offset`, batches whose clock says `time_ms` at the latest. -1: to the end."""

    offset: int = -1
    time_ms: int = -1

    def is_past(self, offset: int) -> bool:
        """Whether a record at `offset` lies behind it."""
        return 0 <= self.offset < offset


END = Moment()
NO_BATCH = BatchId(0, 0)


@dataclass
class Rebuilt:
    """A partition's state in `store`, as of the batch `head`, whose footer stands at `head_offset` (-1: none).

    `now_ms` is the log's clock there. `left` counts the records behind the head that were read and not shown.
    """

    partition: int
    store: Store
    batches: int = 0
    events: int = 0
    head: BatchId = NO_BATCH
    head_offset: int = -1
    head_hash: bytes = NO_FOOTER
    now_ms: int = 0
    left: int = 0

    def summary(self) -> Json:
        """For people and programs; `state_hash` is equal for equal states."""
        return {
            "partition": self.partition,
            "batches": self.batches,
            "events": self.events,
            "head": f"{self.head.claim_no}/{self.head.batch_no}",
            "head_offset": self.head_offset,
            "head_hash": self.head_hash.hex(),
            "now_at_ms": self.now_ms,
            "records_left": self.left,
            "state_hash": state_hash(self.store).hex(),
        }

    def epochs(self) -> tuple[int, ...]:
        """The partition counts that the application has had, oldest first; nothing if it never grew."""
        row = self.store.get(META, ROUTING_KEY)
        return tuple(row.epochs) if row is not None else ()

    def runs(self) -> Iterator[tuple[str, str, RunRow]]:
        """Every run: workflow id, run id, head."""
        for key, row in self.store.scan(RUNS, ()):
            if isinstance(row, RunRow):
                yield str(key[0]), str(key[1]), row

    def run(self, workflow_id: str, run_id: str = "") -> tuple[str, RunRow]:
        """A run's id and head; the newest run unless one is named. Raises WorkflowNotFound."""
        if not run_id:
            current = self.store.get(RUNS, current_key(workflow_id))
            run_id = current.run_id if isinstance(current, CurrentRow) else ""
        row = self.store.get(RUNS, run_key(workflow_id, run_id)) if run_id else None
        if not isinstance(row, RunRow):
            which = f"{workflow_id}/{run_id}" if run_id else workflow_id
            raise WorkflowNotFound(
                f"{which} is not in the state of partition {self.partition} as of offset {self.head_offset}: it began"
                " later, or was purged before (then name an earlier moment with --until)",
                code="not_found",
                workflow_id=workflow_id,
            )
        return run_id, row

    def history(self, workflow_id: str, run_id: str) -> list[Event]:
        """A run's events, as they are on the log."""
        return [record.event for _, record in self.store.scan(HISTORY, run_key(workflow_id, run_id))]

    def description(self, workflow_id: str, run_id: str, row: RunRow) -> Json:
        """A run as the state has it: its head, its open steps, its timers."""
        steps = [(key, step) for key, step in self.store.scan(STEPS, run_key(workflow_id, run_id))]
        timers = [(str(key[3]), due.due_at_ms) for key, due in self.store.scan(TIMERS, (0, workflow_id, run_id))]
        return {
            **run_view(workflow_id, run_id, row),
            "partition": self.partition,
            "as_of_offset": self.head_offset,
            "as_of_at_ms": self.now_ms,
            "head_hash": row.head_hash.hex(),
            "result": value_view(row.result) if row.status == "completed" else None,
            "pending_steps": [step_view(str(key[2]), step) for key, step in steps if isinstance(step, StepRow)],
            "timers": [{"timer": timer, "due_at_ms": due} for timer, due in timers],
        }

    def events_of(self, workflow_id: str, run_id: str) -> list[Json]:
        """A run's history as `workflow history` exports it."""
        return [event_view(event) for event in self.history(workflow_id, run_id)]


class _Rebuild:
    """Reads one partition up to a moment, which ends at the last batch that is whole before it."""

    def __init__(self, made: Rebuilt, settings: Settings, where: str, until: Moment) -> None:
        self._made = made
        self._fold = StateFold(made.store, settings)
        self._assembler = AcceptingAssembler(where)
        self._until = until
        self._claims: list[Batch] = []
        """Claims whose place in time only the batch behind them tells: hosts' clocks differ."""

    def record(self, record: Record, offset: int) -> bool:
        """Take one record; whether to go on."""
        batch = self._assembler.feed(record, offset)
        self._made.left += 1
        if batch is None:
            return True
        if batch.is_claim:
            self._claims.append(batch)
            return True
        body = batch.footer.event.body
        assert isinstance(body, BatchFooter)
        if 0 <= self._until.time_ms < body.now_ms:
            return False
        self._claimed()
        self._fold.batch(batch, offset)
        made, event = self._made, batch.footer.event
        made.batches += 1
        made.events += len(batch.records)
        made.head, made.head_offset = BatchId(event.claim_no, event.batch_no), offset
        made.head_hash, made.now_ms, made.left = batch.footer.hash, body.now_ms, 0
        return True

    def unreadable(self, offset: int, problem: str) -> None:
        """A record that no schema fits: a repair behind it may have set it aside."""
        self._assembler.broken(offset, problem)

    def end(self) -> None:
        """Everything was read. Raises LogGap: what follows cannot be told."""
        if self._assembler.gap is not None:
            raise self._assembler.gap
        timed = self._until.time_ms
        if self._claims and (timed < 0 or self._claims[-1].footer.event.recorded_at_ms <= timed):
            self._claimed()
        self._fold.write()

    def cut(self) -> None:
        """A batch lies behind the moment."""
        self._fold.write()

    def _claimed(self) -> None:
        for claim in self._claims:
            self._fold.claim(claim)
        self._claims.clear()


def rebuild(
    number: int, slices: Iterable[Sequence[Wire]], codec: Codec, made: tuple[Store, Settings], until: Moment = END
) -> Rebuilt:
    """Fold partition `number` into a store, which must be empty, up to a moment. The slices begin at offset 0.

    Raises LogGap where the log breaks its rule (its start is gone, something was changed or cannot be read): state
    behind that place cannot be told.
    """
    store, settings = made
    rebuilt = Rebuilt(number, store)
    work = _Rebuild(rebuilt, settings, f"{settings.app}.events/{number}", until)
    for wires in slices:
        for wire in wires:
            if until.is_past(wire.offset):
                work.end()
                return rebuilt
            try:
                record = codec.decode_event(wire.key, wire.value)
            except UndecodableRecord as error:
                work.unreadable(wire.offset, str(error))
                continue
            if not work.record(record, wire.offset):
                work.cut()
                return rebuilt
    work.end()
    return rebuilt
