"""The hand that an event's `apply` writes with: reads through a view, collects the changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from .. import ids
from ..commands import Command, TopicCommand
from ..events import Event
from ..rows import OUTBOX, TIMERS, Key, Message, OutboxRow, TimerDueRow, TimerRow, outbox_key, timer_due_key, timer_key
from ..values import Actor


class Changes(Protocol):
    """A view that takes writes: a row, or None to delete it."""

    def get(self, family: str, key: Key) -> Any: ...

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]: ...

    def put(self, family: str, key: Key, row: Any) -> None: ...


class Settings(NamedTuple):
    """What folding depends on beside the log. The same for every engine of an application."""

    app: str
    dedup_horizon_ms: int = 14 * 86_400_000
    retention_ms: int = 30 * 86_400_000


class Fold:
    """One event being applied. `sent` numbers the outbox rows of the event; one that a fork `copied` sends nothing."""

    __slots__ = ("copied", "event", "sent", "settings", "state")

    def __init__(self, state: Changes, event: Event, settings: Settings) -> None:
        self.state = state
        self.event = event
        self.settings = settings
        self.sent = 0
        self.copied = False

    def send(self, topic: str, key: str, body: Message, *, partition: int = -1, step: str = "") -> None:
        """Queue an outbox row; it leaves once this event is proven."""
        if self.copied:
            return
        event = self.event
        row = OutboxRow(topic, partition, key, body, event.workflow_id, event.run_id, step)
        self.state.put(OUTBOX, outbox_key(event.claim_no, event.batch_no, event.batch_index, self.sent), row)
        self.sent += 1

    def send_command(
        self, workflow_id: str, body: TopicCommand, *, step: str = "", command_id: str = "", reason: str = ""
    ) -> str:
        """Queue a command to another workflow, with an id (returned) derived from this event unless one is given."""
        event = self.event
        command = Command(
            id=ids.within_bounds(command_id or self._command_id()),
            workflow_id=workflow_id,
            body=body,
            actor=Actor("child", f"{event.workflow_id}/{event.run_id}")
            if event.seq
            else Actor("engine", event.workflow_id),
            reason=reason,
            time_ms=event.recorded_at_ms,
            trace=event.trace,
        )
        self.send("commands", workflow_id, command, step=step)
        return command.id

    def _command_id(self) -> str:
        event = self.event
        if event.seq:
            return ids.sent_command_id(event.workflow_id, event.run_id, event.seq, self.sent)
        # A record of the partition has no place in a run: the command that caused it names it.
        return ids.sent_command_id(event.workflow_id, event.cause.command_id, 0, self.sent)

    def set_timer(self, kind: str, ref: str, due_at_ms: int) -> str:
        """Put a timer row; returns its name `kind|ref`. A timer of the same name is replaced."""
        event = self.event
        name = f"{kind}|{ref}"
        self.clear_timer(name)
        self.state.put(
            TIMERS,
            timer_key(due_at_ms, event.workflow_id, event.run_id, name),
            TimerRow(event.workflow_id, event.run_id, kind, ref),
        )
        self.state.put(TIMERS, timer_due_key(event.workflow_id, event.run_id, name), TimerDueRow(due_at_ms))
        return name

    def clear_timer(self, name: str) -> None:
        """Delete a timer row, if there is one."""
        event = self.event
        due_key = timer_due_key(event.workflow_id, event.run_id, name)
        due = self.state.get(TIMERS, due_key)
        if due is not None:
            self.state.put(TIMERS, timer_key(due.due_at_ms, event.workflow_id, event.run_id, name), None)
            self.state.put(TIMERS, due_key, None)
