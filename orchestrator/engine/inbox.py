"""What waits for a partition's thread.

Commands, outcomes of its steps, records read back, acknowledgements, requests.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..core.commands import ReportStep
from ..log.ports import Wire
from ..sdk.execution import StepReport


class Requests(NamedTuple):
    """What the process asks of a partition."""

    release: bool = False
    grace_ms: int = 0


class Room(NamedTuple):
    """Beyond how many waiting commands, or bytes of them, their reader is paused; it goes on below a quarter of both.

    One delivery more than that may come: a slice of what the reader has fetched.
    """

    commands: int = 2_000
    bytes: int = 16 << 20

    def exceeded(self, commands: int, bytes_: int) -> bool:
        """Whether the reader has to wait."""
        return commands > self.commands or bytes_ > self.bytes

    def regained(self, commands: int, bytes_: int) -> bool:
        """Whether it can go on."""
        return commands < self.commands // 4 and bytes_ < self.bytes // 4


ROOM = Room()


class Inbox:
    """Bounded by its sources: the reader of commands is paused and resumed."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None], room: Room = ROOM) -> None:
        self.changed = threading.Condition()
        self.commands: deque[Wire] = deque()
        self.reports: deque[StepReport] = deque()
        self.tail: deque[Wire] = deque()
        self.acks: deque[tuple[int, str]] = deque()
        self.slot_freed = False
        self.lost_from = -1
        self.down = ""
        self.request = Requests()
        self._handed_on = False
        self._pause, self._resume, self._room = pause, resume, room
        self._paused = False
        self._came = self._taken = 0
        """Bytes of commands: counted by the reader's thread, and by the partition's."""

    def put_commands(self, records: Sequence[Wire]) -> None:
        """From the commands reader's thread."""
        with self.changed:
            self.commands.extend(records)
            self._came += sum(len(record.value) for record in records)
            if not self._paused and self._room.exceeded(len(self.commands), self._came - self._taken):
                self._paused = True
                self._pause()
            self.changed.notify()

    def put_tail(self, records: Sequence[Wire]) -> None:
        """From the tail reader's thread."""
        with self.changed:
            self.tail.extend(records)
            self.changed.notify()

    def put_report(self, report: StepReport) -> bool:
        """From an executor's thread. False: nobody takes outcomes here any more, they go by command."""
        with self.changed:
            if self._handed_on:
                return False
            self.reports.append(report)
            self.changed.notify()
            return True

    def hand_on(self) -> list[StepReport]:
        """The outcomes that wait here. What comes from now on goes to whoever owns the partition next."""
        with self.changed:
            self._handed_on = True
            found = list(self.reports)
            self.reports.clear()
            return found

    def take_on(self) -> None:
        """The partition is owned (again): outcomes are taken here."""
        with self.changed:
            self._handed_on = False

    def reported(self) -> set[str]:
        """Tokens of attempts whose outcome waits here."""
        with self.changed:
            return {report.body.token for report in self.reports if isinstance(report.body, ReportStep)}

    def put_ack(self, number: int, problem: str) -> None:
        """From the outbox producer's thread."""
        with self.changed:
            self.acks.append((number, problem))
            self.changed.notify()

    def slot_is_free(self) -> None:
        """A slot for a `fail` or `park` step became free."""
        with self.changed:
            self.slot_freed = True
            self.changed.notify()

    def commands_lost(self, start: int) -> None:
        """The commands log begins behind our position."""
        with self.changed:
            self.lost_from = start
            self.changed.notify()

    def take_down(self, problem: str) -> None:
        """What the partition stands on is gone: it ends, parked, with this problem."""
        with self.changed:
            self.down = problem
            self.changed.notify()

    @property
    def trouble(self) -> bool:
        """Whether its log or its input is not what it was."""
        return self.lost_from >= 0 or bool(self.down)

    def ask(self, request: Requests) -> None:
        """From the process: release the partition."""
        with self.changed:
            self.request = request
            self.changed.notify()

    def wait(self, timeout_s: float) -> bool:
        """Until something is here, or the time is over. True if something is."""
        with self.changed:
            if self._idle():
                self.changed.wait(timeout_s)
            return not self._idle()

    def pause_for(self, seconds: float) -> None:
        """Wait, whatever comes in, unless the partition is to be released."""
        with self.changed:
            self.changed.wait_for(lambda: self.request.release, seconds)

    def wait_commands(self, timeout_s: float) -> None:
        """Until a command is here, or the time is over, or nothing of the partition's can be taken."""
        with self.changed:
            self.changed.wait_for(lambda: bool(self.commands) or self.trouble, timeout_s)

    def wait_tail(self, timeout_s: float) -> bool:
        """Until a record was read back, or the time is over."""
        with self.changed:
            if not self.tail:
                self.changed.wait_for(lambda: bool(self.tail), timeout_s)
            return bool(self.tail)

    def empty(self) -> bool:
        """Whether nothing is here. Ask under `changed`."""
        return self._idle()

    def _idle(self) -> bool:
        return not (
            self.commands
            or self.reports
            or self.tail
            or self.acks
            or self.slot_freed
            or self.request.release
            or self.trouble
        )

    def took_command(self, command: Wire) -> None:
        """The partition took a command off the queue: let the reader go on when there is room again."""
        self._taken += len(command.value)
        if self._paused and self._room.regained(len(self.commands), self._came - self._taken):
            with self.changed:
                self._go_on()

    def drop_commands(self) -> None:
        """They are read again from the last footer's input position."""
        with self.changed:
            self.commands.clear()
            self._taken = self._came
            self._go_on()

    def _go_on(self) -> None:
        """Under `changed`, as the pause is: a reader that is about to be paused is not resumed before."""
        if self._paused:
            self._paused = False
            self._resume()
